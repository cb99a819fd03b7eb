"""The master key: 32 random bytes under which every secret of the vault is sealed, and where it comes from.

As text it is one line of base64. What is done with it uses keys derived from it (HKDF, RFC 5869), one for each
purpose, so that its id and the versions of secrets tell nothing about the key that encrypts.

It comes from a source (`secrets.master_key`): a file of ours, or what others give us. Each source also knows a *next*
key, which makes a change of keys safe against a crash: the next key is durable before the store is sealed under it, and
the store's key id says which of the two counts.

    file:PATH         next: PATH.new, made by `relay secrets rotate`, and moved over PATH when the store is done
    env:NAME          next: the variable NAME_NEW, given by whoever gives NAME
    credential:NAME   next: the credential NAME.new

A secret is sealed by AES-256-GCM with the owner's name as associated data, so that it opens for its owner only. Sealed
it is one format byte, a random nonce of 12 bytes, and the ciphertext with its tag of 16 bytes (NIST SP 800-38D). Random
nonces are safe here: a store sees a few thousand secrets under one key, not 2**32.

DIAGNOSTICS: MasterKeyError with the file or variable and what to do.
"""

import asyncio
import base64
import binascii
import fcntl
import hmac
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.secrets.sources import SecretUnavailable, Source, SourceKind, parse_source, read_secret_file, source_path
from relay.system.files import check_modes, make_private_folder, sync_folder, write_private

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


_LOCK_SECONDS = 10.0
_LOCK_STEP = 0.02
_MAKE_KEY = "head -c 32 /dev/urandom | base64"


class KeySource(Protocol):
    """What the vault asks of it. All but `locked` and `variables` may raise MasterKeyError."""

    @property
    def variables(self) -> frozenset[str]:
        """The environment variables that hold a key, and so are for nobody else."""

    def read(self) -> MasterKey | None:
        """Return the key; None where there is none."""

    def read_next(self) -> MasterKey | None:
        """Return the next key; None where there is none."""

    def missing(self) -> str:
        """Return the first half of a sentence that says that there is no key."""

    def create(self) -> MasterKey:
        """Make the first key, durably."""

    def prepare_next(self) -> MasterKey:
        """Return the key to change to, durable from now on."""

    def promote(self) -> None:
        """The next key is the key."""

    def drop_next(self) -> None:
        """Forget a next key that came to nothing."""

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Keep other processes from making, changing or settling the key meanwhile."""


class KeyFile:
    """A key file of ours. Made with mode 0600 if missing; refused when others could open it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = path.with_name(f"{path.name}.new")

    @property
    def variables(self) -> frozenset[str]:
        """None: the key is in a file."""
        return frozenset()

    def read(self) -> MasterKey | None:
        """Return the key in the file."""
        return _read_key(self._path, f"the file {self._path}", is_ours=True)

    def read_next(self) -> MasterKey | None:
        """Return the key of a change that is half done."""
        return _read_key(self._next, f"the file {self._next}", is_ours=True)

    def missing(self) -> str:
        """Return that the file is not there."""
        return f"the master key file {self._path} is missing"

    def create(self) -> MasterKey:
        """Make the file with a new key."""
        return self._write(self._path)

    def prepare_next(self) -> MasterKey:
        """Make the file PATH.new with a new key."""
        return self._write(self._next)

    def promote(self) -> None:
        """Move PATH.new over PATH."""
        with _named(self._path):
            self._next.replace(self._path)
            sync_folder(self._path.parent)

    def drop_next(self) -> None:
        """Remove a PATH.new under which nothing was sealed."""
        with _named(self._next):
            if self._next.exists():  # on a read-only disk even the removal of nothing fails
                self._next.unlink()

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold a lock on the key's folder; it goes with the process that holds it, however that ends."""
        folder = self._path.parent
        with _named(folder):
            make_private_folder(folder)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            await _lock(descriptor, folder)
            yield
        finally:
            os.close(descriptor)

    def _write(self, path: Path) -> MasterKey:
        key = MasterKey.new()
        with _named(path):
            write_private(path, key.as_text())
        return key


class GivenKey:
    """A key that the environment or systemd gives us. We can read it, not make or change it."""

    def __init__(self, source: Source, environ: Mapping[str, str]) -> None:
        self._source = source
        self._successor = Source(source.kind, source.argument + ("_NEW" if source.kind is SourceKind.ENV else ".new"))
        self._environ = environ

    @property
    def variables(self) -> frozenset[str]:
        """NAME and NAME_NEW, where the key is given in NAME."""
        sources = (self._source, self._successor)
        return frozenset(source.argument for source in sources if source.kind is SourceKind.ENV)

    def read(self) -> MasterKey | None:
        """Return the key that was given."""
        return self._read(self._source)

    def read_next(self) -> MasterKey | None:
        """Return the key that was given to change to."""
        return self._read(self._successor)

    def missing(self) -> str:
        """Return that no key was given."""
        return f"no master key was given in {self._source}"

    def create(self) -> MasterKey:
        """Say how the first key is made: by whoever gives it."""
        raise MasterKeyError(f"{self.missing()}; make one with: {_MAKE_KEY}")

    def prepare_next(self) -> MasterKey:
        """Return the key to change to, which must have been given."""
        key = self.read_next()
        if key is None:
            raise MasterKeyError(
                f"relay cannot change {self._source} itself: give the new key in {self._successor} "
                f"(make one with: {_MAKE_KEY}), rotate again, and then move it to {self._source}"
            )
        return key

    def promote(self) -> None:
        """Leave the move to whoever gives the keys: until then the next key is found by its id."""

    def drop_next(self) -> None:
        """Leave the next key where it is: it was given."""

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Lock nothing: there is nothing that we write."""
        yield

    def _read(self, source: Source) -> MasterKey | None:
        if source.kind is SourceKind.ENV:
            text = self._environ.get(source.argument)
            return None if text is None else MasterKey.parse(text.encode(errors="surrogateescape"), str(source))
        try:
            path = source_path(source, self._environ, Path())
        except SecretUnavailable as error:
            raise MasterKeyError(f"the master key cannot be read: {error}") from None
        return None if path is None else _read_key(path, str(source), is_ours=False)


def key_source(spec: str, state_dir: Path, environ: Mapping[str, str]) -> KeySource:
    """Return the source that `secrets.master_key` names; a relative file is one in `state_dir`.

    Raises MasterKeyError for what is no such name.
    """
    try:
        source = parse_source(spec)
        path = source_path(source, environ, state_dir) if source.kind is SourceKind.FILE else None
    except SecretUnavailable:
        source, path = None, None
    if source is None or source.kind is SourceKind.COMMAND:
        raise MasterKeyError("secrets.master_key is written as file:PATH, credential:NAME or env:NAME")
    return GivenKey(source, environ) if path is None else KeyFile(path)


def _read_key(path: Path, where: str, *, is_ours: bool) -> MasterKey | None:
    with _named(path):
        if not path.exists():
            return None
    if is_ours and (lax := check_modes([path])):
        raise MasterKeyError(lax[0])
    try:
        return MasterKey.parse(read_secret_file(path, where), where)
    except SecretUnavailable as error:
        raise MasterKeyError(f"the master key cannot be read: {error}") from None


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn an OSError into a MasterKeyError that names the path."""
    try:
        yield
    except OSError as error:
        raise MasterKeyError(f"the master key cannot be kept: {path}: {error.strerror}") from None


async def _lock(descriptor: int, folder: Path) -> None:
    """Take the lock without blocking the event loop. Raises MasterKeyError after 10 seconds."""
    for _ in range(int(_LOCK_SECONDS / _LOCK_STEP)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(_LOCK_STEP)
        else:
            return
    raise MasterKeyError(f"another relay process is changing the master key in {folder}; try again")


_FORMAT = b"\x01"
_NONCE_BYTES = 12


class SealBroken(Exception):
    """A sealed secret does not open: another key, another owner, or changed bytes. AES-GCM does not tell which."""


def seal(key: MasterKey, owner: str, value: str) -> bytes:
    """Return the sealed form of a value for the store."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return _FORMAT + nonce + AESGCM(key.sealing_key).encrypt(nonce, value.encode(), _bound_to(owner))


def unseal(key: MasterKey, owner: str, sealed: bytes) -> str:
    """Return the value in a sealed secret. Raises SealBroken."""
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    if sealed[:1] != _FORMAT or len(nonce) < _NONCE_BYTES:
        raise SealBroken("not in the format of a sealed secret")
    try:
        return AESGCM(key.sealing_key).decrypt(nonce, ciphertext, _bound_to(owner)).decode()
    except InvalidTag:
        raise SealBroken("another key, another owner, or changed bytes") from None


def _bound_to(owner: str) -> bytes:
    return b"relay secret\0" + owner.encode()
