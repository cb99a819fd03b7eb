"""Where the master key comes from (`secrets.master_key`): a file of ours, or what others give us.

Each source also knows a *next* key, which makes a change of keys safe against a crash: the next key is durable
before the store is sealed under it, and the store's key id says which of the two counts.

    file:PATH         next: PATH.new, made by `relay secrets rotate`, and moved over PATH when the store is done
    env:NAME          next: the variable NAME_NEW, given by whoever gives NAME
    credential:NAME   next: the credential NAME.new

DIAGNOSTICS: MasterKeyError with the file or variable and what to do.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

from relay.secrets.master_key import MasterKey, MasterKeyError
from relay.secrets.sources import SecretUnavailable, Source, SourceKind, parse_source, read_secret_file, source_path
from relay.system.file_modes import check_modes, make_private_folder, sync_folder, write_private

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
