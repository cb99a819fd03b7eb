"""Backups: everything that a relay is, in one file, and back.

A backup is a gzipped tar file with a manifest, a whole copy of the store, both TOML files and, where it is a file of
ours, the master key. So it is worth as much as all passwords together, and has mode 0600.

What waited when a backup was taken may have been sent since. So all of it is held when a backup is restored, for a
person to look at: what nobody has is better sent late than twice. The copy of a store that a migration
keeps is put back in the same way.

DIAGNOSTICS: Refused and the faults of what is opened (`relay.control.operation`), each a sentence with the file.
"""

import asyncio
import gzip
import json
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from relay import __version__
from relay.config.settings import Settings
from relay.control.refused import Refused
from relay.delivery.administrative_actions import HELD_BY_HAND, hold
from relay.secrets.master_key import KeyFile, key_source
from relay.secrets.vault import Vault
from relay.store.db.database import open_database
from relay.store.db.sqlite import check_snapshot, is_store, store_files, take_snapshot
from relay.store.db.tables import HEAD
from relay.store.people.secrets import SecretTable
from relay.store.queue.queue import Queue
from relay.system.files import FILE_MODE, create_private, make_private_folder, sync_folder, take_folder_owner

_MANIFEST = "manifest.json"
_STORE, _DIRECTORY, _SETTINGS, _KEY = "relay.db", "directory.toml", "relay.toml", "master.key"
_MOST_TEXT = 64 * 1024 * 1024
_PAGE = 500
_KNOWN = frozenset({_STORE, _DIRECTORY, _SETTINGS, _KEY})
_BROKEN_OFF = "451 4.3.0 a backup was taken in the middle of this attempt; what came of it is not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself."""

    relay: str
    schema: str
    created: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was put back, how many messages are held, and what is beside it of what was there before."""

    manifest: Manifest
    held: int
    kept: tuple[Path, ...]
    settings_differ: bool


def write_backup(
    settings: Settings, settings_file: Path | None, target: Path, *, with_key: bool, rescued: Path | None = None
) -> Manifest:
    """Write a backup to `target`, whole or not at all. Replaces only another backup. Raises Refused, StoreError.

    `rescued` is a copy of the store by a running relay, whose own file is no longer in its place.
    """
    store = rescued or _file_of(settings)
    if not store.is_file():
        raise Refused(f"there is nothing to back up: {store} does not exist")
    if target.exists():
        read_manifest(target)
    temporary = target.with_name(f"{target.name}.tmp")
    copy = target.with_name(f"{target.name}.store.tmp")
    try:
        os.close(_made_anew(copy))
        take_snapshot(store, copy)
        sources = {_STORE: copy, **_files(settings, settings_file, with_key=with_key)}
        manifest = Manifest(
            relay=__version__,
            schema=HEAD,
            created=_as_text(datetime.now(UTC)),
            files=tuple(sources),
        )
        with os.fdopen(_made_anew(temporary), "wb") as file:
            _pack(file, manifest, sources)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    finally:
        for path in (temporary, *store_files(copy)):
            path.unlink(missing_ok=True)
    return manifest


def read_manifest(source: Path) -> Manifest:
    """Return what a backup says of itself. Raises Refused for a file that is none."""
    with _opened(source) as archive:
        return _manifest_of(source, archive)


def settings_text(source: Path) -> bytes | None:
    """Return the settings file of a backup; None where it has none. Raises Refused."""
    with _opened(source) as archive:
        return _content(archive, _SETTINGS) if _SETTINGS in _manifest_of(source, archive).files else None


def restore_backup(settings: Settings, settings_file: Path | None, source: Path) -> Restored:
    """Put back a backup, or the copy of a store. What is there now is kept beside it. No relay may run.

    Raises Refused, and what `refusals` knows.

    Nothing is touched before the backup has proven to be whole, and the master key to fit.
    """
    _file_of(settings)
    make_private_folder(settings.state_dir)
    with TemporaryDirectory(prefix=".restore-", dir=settings.state_dir) as name:
        folder = Path(name)
        _give_to_owner_of(settings.state_dir, folder)
        manifest = _unpack(source, folder)
        check_snapshot(folder / _STORE)
        held = asyncio.run(_prepare_store(settings, folder, manifest.created))
        kept = tuple(_put_back(settings, folder, manifest.files))
    current = settings_file.read_bytes() if settings_file and settings_file.exists() else None
    saved = settings_text(source) if _SETTINGS in manifest.files else None
    return Restored(manifest=manifest, held=held, kept=kept, settings_differ=saved is not None and saved != current)


def _file_of(settings: Settings) -> Path:
    """Return where the store is. Raises Refused where it is no file."""
    if settings.database_path is None:
        raise Refused(
            "the store is in PostgreSQL, whose own tools copy it: pg_dump --format=custom, and pg_restore; "
            f"keep {_beside_dump(settings)} with the dump"
        )
    return settings.database_path


def _beside_dump(settings: Settings) -> str:
    file = "" if settings.is_directory_stored else f"{settings.directory_path.name} and "
    return f"{file}the master key"


def _unpack(source: Path, folder: Path) -> Manifest:
    """Put what a backup or the copy of a store has into a folder. Raises Refused, StoreError."""
    if source.is_file() and is_store(source):
        os.close(create_private(folder / _STORE))
        take_snapshot(source, folder / _STORE)
        taken = datetime.fromtimestamp(source.stat().st_mtime, UTC)
        return Manifest(relay="", schema="", created=_as_text(taken), files=(_STORE,))
    with _opened(source) as archive:
        manifest = _manifest_of(source, archive)
        for file in manifest.files:
            _extract(archive, file, folder / file)
    return manifest


def _as_text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _files(settings: Settings, settings_file: Path | None, *, with_key: bool) -> Mapping[str, Path]:
    """Return the files beside the store that there are."""
    wanted = {
        _DIRECTORY: None if settings.is_directory_stored else settings.directory_path,
        _SETTINGS: settings_file,
        _KEY: settings.master_key_path if with_key else None,
    }
    return {name: path for name, path in wanted.items() if path is not None and path.is_file()}


def _made_anew(path: Path) -> int:
    """Return a new private file, open for writing; what a broken-off run left there goes."""
    path.unlink(missing_ok=True)
    return create_private(path)


def _pack(file: BinaryIO, manifest: Manifest, sources: Mapping[str, Path]) -> None:
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        text = json.dumps(asdict(manifest), indent=1).encode() + b"\n"
        archive.addfile(_info(_MANIFEST, len(text)), BytesIO(text))
        for name, path in sources.items():
            with path.open("rb") as content:
                archive.addfile(_info(name, os.fstat(content.fileno()).st_size), content)


def _info(name: str, size: int) -> tarfile.TarInfo:
    """Return a member's head: nobody's file, and private."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, FILE_MODE, int(time.time())
    return info


@contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    """Give the archive. Raises Refused where it cannot be read to its end."""
    try:
        with tarfile.open(source, "r:gz") as archive:
            yield archive
    except FileNotFoundError:
        raise Refused(f"there is no backup {source}") from None
    except (tarfile.TarError, KeyError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Refused(f"{source} is not a backup of relay, or a damaged one ({error})") from None


def _manifest_of(source: Path, archive: tarfile.TarFile) -> Manifest:
    try:
        facts = json.loads(_content(archive, _MANIFEST))
        manifest = Manifest(**{**facts, "files": tuple(facts["files"])})
    except (KeyError, TypeError, ValueError):
        raise Refused(f"{source} is not a backup of relay: it has no manifest") from None
    if _STORE not in manifest.files or not _KNOWN.issuperset(manifest.files):
        raise Refused(f"{source} is not a backup that this relay knows: it has {', '.join(manifest.files)}")
    return manifest


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    """Return a small member. Raises KeyError where there is none."""
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found.read(_MOST_TEXT)


def _extract(archive: tarfile.TarFile, name: str, target: Path) -> None:
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    with os.fdopen(create_private(target), "wb") as file:
        shutil.copyfileobj(found, file, 1024 * 1024)
        file.flush()
        os.fsync(file.fileno())


def _give_to_owner_of(state_dir: Path, folder: Path) -> None:
    """Let what is made in a folder of ours belong to the user that relay runs as."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        take_folder_owner(descriptor, state_dir)
    finally:
        os.close(descriptor)


async def _prepare_store(settings: Settings, folder: Path, created: str) -> int:
    """Bring a store to this version, see that the master key fits, and hold what waits; return how many messages."""
    database = await open_database(folder / _STORE)
    try:
        has_key = (folder / _KEY).exists()
        source = key_source(settings.secrets.master_key, settings.state_dir, os.environ)
        await Vault.open(SecretTable(database), KeyFile(folder / _KEY) if has_key else source)
        queue = Queue(database, f"restore of {created}")
        held = await _hold_all(
            queue, f"restored from a backup of {created}: it may have been sent since; {HELD_BY_HAND}"
        )
        await queue.aclose()
    finally:
        await database.close()
    return held


async def _hold_all(queue: Queue, reason: str) -> int:
    now = datetime.now(UTC)
    change = hold(now, reason)
    async for message, attempt in queue.take_back(now):
        over = replace(attempt, ended=now, reply=_BROKEN_OFF, meaning="unknown") if attempt else None
        settlement = change(message)
        assert settlement is not None, "what is under way can be held"
        await queue.settle(replace(settlement, attempt=over))
    held, after = 0, None
    while page := await queue.list_queue(limit=_PAGE, after=after):
        for message in page:
            await queue.edit(message.id, change)
        held, after = held + len(page), page[-1]
    return held


def _put_back(settings: Settings, folder: Path, files: Sequence[str]) -> Iterator[Path]:
    """Move files to their places, and yield where those are now that were there."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    places = {_STORE: _file_of(settings), _DIRECTORY: settings.directory_path, _KEY: settings.master_key_path}
    for name in files:
        place = places.get(name)
        if place is None:
            continue
        for old in store_files(place) if name == _STORE else (place,):
            if old.exists():
                aside = old.with_name(f"{old.name}.{stamp}.old")
                old.replace(aside)
                yield aside
        (folder / name).replace(place)
        sync_folder(place.parent)
