"""What is kept in place of a login password for SCRAM-SHA-256 (RFC 5802, RFC 7677)."""

import hmac
import secrets
from dataclasses import dataclass, field
from typing import ClassVar

from relay.secrets.login_hash import BASE64

# RFC 7677 section 4 wants at least 4,096, and 15,000 for its rule of thumb of 0.1 s on the machines of 2015. The count
# is the client's work at every login, small devices and scripts included, so it is not far beyond: the verifier lies
# sealed in the vault, where who can open it finds the mail passwords in clear.
_ITERATIONS = 16_384
_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Verifier:
    """What checks a SCRAM-SHA-256 exchange (RFC 5802 section 3); the password cannot be had from it."""

    __pydantic_config__: ClassVar = BASE64

    salt: bytes = field(repr=False)
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def make_verifier(password: str) -> Verifier:
    """Return a new verifier of a prepared password (`login_password.prepare`)."""
    from scramp import ScramMechanism  # noqa: PLC0415  2 MB, for those who log in

    made = ScramMechanism("SCRAM-SHA-256").make_auth_info(
        password, iteration_count=_ITERATIONS, salt=secrets.token_bytes(_SALT_BYTES)
    )
    salt, stored_key, server_key, iterations = made
    return Verifier(salt, iterations, stored_key, server_key)


def fake_verifier(key: bytes, name: str) -> Verifier:
    """Return a verifier that no password fits. It is always the same for a key and a name.

    A salt that changed with each question would tell who asks that nobody has this name.
    """

    def derived(purpose: bytes) -> bytes:
        return hmac.digest(key, purpose + b"\0" + name.encode(errors="surrogatepass"), "sha256")

    return Verifier(derived(b"salt")[:_SALT_BYTES], _ITERATIONS, derived(b"stored key"), derived(b"server key"))
