"""Login passwords: the text that may be one, and the record that is kept of it. The password itself is not kept.

A record is JSON in the vault under "login/NAME", sealed like every secret. It holds a hash, for clients that send the
password (PLAIN, LOGIN), and a verifier, for those that do not (SCRAM-SHA-256; RFC 5802, RFC 7677).

The hash is Argon2id, or scrypt where this system's OpenSSL has no Argon2id (it came with 3.2). The costs are the least
that OWASP's Password Storage Cheat Sheet asks for, in memory as small as it allows, because two hashes may be made at
once in a small relay: 19 MiB and 2 passes; for scrypt N = 2^15, r = 8, p = 3 (32 MiB). A hash says itself what made it,
so that other costs can come later, and it moves between systems of either kind.
"""

import hmac
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from relay.secrets.sources import SecretUnavailable
from relay.secrets.vault import SecretRefused

if TYPE_CHECKING:
    from pydantic import TypeAdapter


_BASE64: Mapping[str, Any] = MappingProxyType(
    {"extra": "forbid", "ser_json_bytes": "base64", "val_json_bytes": "base64", "hide_input_in_errors": True}
)
"""How what is kept of a login password stands in JSON."""

_SALT_BYTES = 16
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Argon2idHash:
    """An Argon2id hash (RFC 9106): `memory` in KiB, `passes` over it, `lanes` side by side."""

    __pydantic_config__: ClassVar = _BASE64

    kind: Literal["argon2id"] = "argon2id"
    memory: int = 19 * 1024
    passes: int = 2
    lanes: int = 1
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    def function(self) -> Argon2id:
        """Return what derives a digest, once, in about 20 ms, without Python's lock. Raises UnsupportedAlgorithm."""
        return Argon2id(
            salt=self.salt,
            length=_DIGEST_BYTES,
            iterations=self.passes,
            lanes=self.lanes,
            memory_cost=self.memory,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScryptHash:
    """A scrypt hash (RFC 7914) by its cost `n`, block size `r` and parallelisation `p`."""

    __pydantic_config__: ClassVar = _BASE64

    kind: Literal["scrypt"] = "scrypt"
    n: int = 2**15
    r: int = 8
    p: int = 3
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    def function(self) -> Scrypt:
        """Return what derives a digest, once, in about 200 ms, without Python's lock."""
        return Scrypt(salt=self.salt, length=_DIGEST_BYTES, n=self.n, r=self.r, p=self.p)


PasswordHash: TypeAlias = Argon2idHash | ScryptHash


def nobodys_hash() -> PasswordHash:
    """Return a hash with a new salt that is no password's, of the best kind that this system has."""
    salt, digest = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_DIGEST_BYTES)
    try:
        hash_ = Argon2idHash(salt=salt, digest=digest)
        hash_.function()
    except UnsupportedAlgorithm:
        return ScryptHash(salt=salt, digest=digest)
    return hash_


def hash_password(password: str) -> PasswordHash:
    """Return a new hash of a password."""
    hash_ = nobodys_hash()
    return replace(hash_, digest=hash_.function().derive(password.encode()))


def is_hash_of(hash_: PasswordHash, password: str) -> bool:
    """Tell whether a hash is that of a password. Raises SecretUnavailable where this system cannot tell."""
    try:
        return hmac.compare_digest(hash_.function().derive(password.encode()), hash_.digest)
    except UnsupportedAlgorithm:
        raise SecretUnavailable(
            "a login password is kept as Argon2id, which this system's OpenSSL lacks; set it again, or use OpenSSL 3.2"
        ) from None


# RFC 7677 section 4 wants at least 4,096, and 15,000 for its rule of thumb of 0.1 s on the machines of 2015. The count
# is the client's work at every login, small devices and scripts included, so it is not far beyond: the verifier lies
# sealed in the vault, where who can open it finds the mail passwords in clear.
_ITERATIONS = 16_384


@dataclass(frozen=True, slots=True)
class Verifier:
    """What checks a SCRAM-SHA-256 exchange (RFC 5802 section 3); the password cannot be had from it."""

    __pydantic_config__: ClassVar = _BASE64

    salt: bytes = field(repr=False)
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def make_verifier(password: str) -> Verifier:
    """Return a new verifier of a prepared password (`prepare`)."""
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


_FEWEST_CHARACTERS = 8
_MOST_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """What is kept of one login password. `version` is that of the format."""

    __pydantic_config__: ClassVar = _BASE64

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
            f"the login password of {name} is kept in a form that this version does not know; set it again"
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
