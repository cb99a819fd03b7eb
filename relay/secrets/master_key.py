"""The master key: 32 random bytes under which every secret of the vault is sealed.

As text it is one line of base64. What is done with it uses keys derived from it (HKDF, RFC 5869), one for each
purpose, so that its id and the versions of secrets tell nothing about the key that encrypts.
"""

import base64
import binascii
import hmac
import secrets
from functools import cached_property

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_BYTES = 32


class MasterKeyError(Exception):
    """The master key is missing, not one, too open, or not the one of this store. The message says what to do."""


class MasterKey:
    """One master key. Two are the same when their `id` is: 16 hex digits that may be stored, shown and logged."""

    def __init__(self, material: bytes) -> None:
        if len(material) != _BYTES:
            raise MasterKeyError(f"a master key has {_BYTES} bytes, and this one {len(material)}")
        self._material = material

    @classmethod
    def new(cls) -> "MasterKey":
        """Return a key from the system's random source."""
        return cls(secrets.token_bytes(_BYTES))

    @classmethod
    def parse(cls, text: bytes, where: str) -> "MasterKey":
        """Return the key that a file or variable holds. Raises MasterKeyError naming `where` and what is wrong."""
        mend = "put the right one back from your backup"
        text = text.strip()
        if not text:
            raise MasterKeyError(f"{where} is empty where the master key should be; {mend}")
        try:
            material = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise MasterKeyError(
                f"{where} holds no master key, which is {_BYTES} bytes as one line of base64; {mend}"
            ) from None
        if len(material) != _BYTES:
            raise MasterKeyError(f"the master key in {where} has {len(material)} bytes instead of {_BYTES}; {mend}")
        return cls(material)

    def __repr__(self) -> str:
        return f"MasterKey(id={self.id!r})"

    def __reduce__(self) -> str:
        raise TypeError("a master key is never serialised")

    def as_text(self) -> bytes:
        """Return the key as it is kept: base64 and a newline. For its file only."""
        return base64.b64encode(self._material) + b"\n"

    def derive(self, purpose: str) -> bytes:
        """Return the 32-byte key for one purpose."""
        return HKDF(SHA256(), _BYTES, salt=None, info=f"relay {purpose}".encode()).derive(self._material)

    def digest(self, value: str) -> str:
        """Return 16 hex digits that are the same for the same value, and tell nothing to who lacks this key."""
        return hmac.digest(self._digest_key, value.encode(), "sha256").hex()[:16]

    @cached_property
    def id(self) -> str:
        """What names this key in the store and in messages."""
        return self.derive("key id").hex()[:16]

    @cached_property
    def sealing_key(self) -> bytes:
        """The AES-256 key of the vault."""
        return self.derive("vault")

    @cached_property
    def _digest_key(self) -> bytes:
        return self.derive("secret version")
