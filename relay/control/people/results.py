"""What the operations on people return: the keys of the JSON as fields. Times are those of RFC 3339, in UTC.

SECURITY: a link and a token are secret; no repr shows them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRecord:
    """An administrator or viewer."""

    name: str
    role: str
    created: str
    password_set: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedPerson(PersonRecord):
    """A new administrator or viewer; without a password with a one-time link (`url`) to set it by."""

    url: str | None = field(repr=False)
    expires: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationLink:
    """A one-time link, and until when it holds."""

    url: str = field(repr=False)
    expires: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLink:
    """A one-time link that makes the first administrator."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token of the API by its name; `used` is when it was used last."""

    name: str
    role: str
    created: str
    used: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedToken(TokenRecord):
    """A new token, this once: only its digest is kept."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One change: who made it, in which role and by which way. `changes` are {key, old, new} each, as they are kept."""

    id: int
    at: str
    who: str
    role: str
    way: str
    peer: str
    operation: str
    what: str
    changes: Sequence[dict[str, Any]]
