"""Login passwords: the text that may be one, and the record that is kept of it. The password itself is not kept.

A record is JSON in the vault under "login/NAME", sealed like every secret. It holds a hash, for clients that send the
password (PLAIN, LOGIN), and a verifier, for those that do not (SCRAM-SHA-256).
"""

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

from relay.secrets.login_hash import BASE64, PasswordHash, hash_password
from relay.secrets.sources import SecretUnavailable
from relay.secrets.vault import SecretRefused
from relay.secrets.verifier import Verifier, make_verifier

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_FEWEST_CHARACTERS = 8
_MOST_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """What is kept of one login password. `version` is that of the format."""

    __pydantic_config__: ClassVar = BASE64

    hash: PasswordHash
    verifier: Verifier
    version: Literal[1] = 1

    @property
    def as_text(self) -> str:
        """The record as the vault keeps it: one line of JSON."""
        return _form().dump_json(self).decode()


@cache
def _form() -> "TypeAdapter[LoginRecord]":
    """Return what reads and writes records. Loaded with the first: a relay without logins needs none."""
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(LoginRecord)


def login_owner(name: str) -> str:
    """Return the owner under which the vault keeps the record of a login: "login/NAME"."""
    return f"login/{name}"


def admin_owner(name: str) -> str:
    """Return the owner under which the vault keeps the record of a person of the pages: "admin/NAME"."""
    return f"admin/{name}"


def make_record(password: str) -> LoginRecord:
    """Return the record of a new password. Raises SecretRefused. Takes some 30 ms: not for the event loop."""
    prepared = prepare(password)
    return LoginRecord(hash_password(prepared), make_verifier(prepared))


def parse_record(text: str, name: str) -> LoginRecord:
    """Return the record in a secret of the vault. Raises SecretUnavailable, naming whose it is."""
    from pydantic_core import ValidationError  # noqa: PLC0415

    try:
        return _form().validate_json(text, strict=False)
    except ValidationError:
        raise SecretUnavailable(
            f"the login password of {name} is kept in a form that this version does not know; set it anew"
        ) from None


def prepare(password: str) -> str:
    """Return a password as it compares: by SASLprep (RFC 4013), for SCRAM (RFC 5802) and PLAIN (RFC 4616) alike.

    Raises SecretRefused for what cannot be a login password. The message does not repeat it.
    """
    if any(unicodedata.category(character) == "Cc" for character in password):
        raise SecretRefused("a login password is one line of text without control characters")
    if len(password) > _MOST_CHARACTERS:
        raise SecretRefused(f"a login password has at most {_MOST_CHARACTERS:,} characters")
    prepared = _prepared(password)
    if len(prepared) < _FEWEST_CHARACTERS:
        raise SecretRefused(f"a login password has at least {_FEWEST_CHARACTERS} characters")
    return prepared


def _prepared(password: str) -> str:
    if password.isascii():  # which SASLprep leaves as it is, only slower
        return password
    from scramp.utils import ScramException, saslprep  # noqa: PLC0415  2 MB, for those who log in

    try:
        return str(saslprep(password))
    except ScramException:
        raise SecretRefused(
            "the login password has a character that mail programs cannot be relied on to send (RFC 4013), such as an "
            "emoji; use letters, digits, signs and spaces"
        ) from None
