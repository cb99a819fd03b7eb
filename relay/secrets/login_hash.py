"""Hashes of login passwords: Argon2id, or scrypt where this system's OpenSSL has no Argon2id (it came with 3.2).

The costs are the least that OWASP's Password Storage Cheat Sheet asks for, in memory as small as it allows, because
two hashes may be made at once in a small relay: 19 MiB and 2 passes; for scrypt N = 2^15, r = 8, p = 3 (32 MiB).
A hash says itself what made it, so that other costs can come later, and it moves between systems of either kind.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from relay.secrets.sources import SecretUnavailable

BASE64: Mapping[str, Any] = MappingProxyType(
    {"extra": "forbid", "ser_json_bytes": "base64", "val_json_bytes": "base64", "hide_input_in_errors": True}
)
"""How what is kept of a login password stands in JSON."""

_SALT_BYTES = 16
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Argon2idHash:
    """An Argon2id hash (RFC 9106): `memory` in KiB, `passes` over it, `lanes` side by side."""

    __pydantic_config__: ClassVar = BASE64

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

    __pydantic_config__: ClassVar = BASE64

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
            "a login password is kept as Argon2id, which this system's OpenSSL lacks; set it anew, or use OpenSSL 3.2"
        ) from None
