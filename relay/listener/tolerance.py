"""What no setting says: how long a client may be silent, and how often wrong."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """The bounds of one session."""

    errors: int = 20  # commands that could not be understood, since the last accepted message
    idle_seconds: float = 300.0  # RFC 5321 section 4.5.3.2.7 wants at least 5 minutes
