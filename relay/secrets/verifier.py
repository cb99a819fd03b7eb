"""What is kept in place of a login password for SCRAM-SHA-256 (RFC 5802, RFC 7677)."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Verifier:
    """What checks a SCRAM-SHA-256 exchange (RFC 5802 section 3); the password cannot be had from it."""

    salt: bytes = field(repr=False)
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
