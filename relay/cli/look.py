"""The directory as `check` and `status` look at it where no relay runs: nothing is made, and nothing is changed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from relay.config.faults import Fault, Faults
from relay.directory.file import DirectoryFile
from relay.directory.model import Directory, Server
from relay.directory.rules.cross_file import check_together, warnings_together
from relay.directory.rules.servers import unnamed_servers
from relay.system.files import read_regular_file

if TYPE_CHECKING:
    from relay.config.settings import Settings


class Found(NamedTuple):
    """What is there; nothing where nobody has made it yet."""

    directory: Directory
    warnings: tuple[Fault, ...]
    is_there: bool


class Look(NamedTuple):
    """What is wrong with the directory that settings name, and what is not good; `is_there`: whether there is one."""

    faults: list[Fault]
    warnings: list[Fault]
    is_there: bool


def look_at_directory(settings: "Settings", settings_file: str) -> Look:
    """Return what a relay with these settings would find, but for the faults of relay.toml by itself."""
    try:
        found = _in_database(settings, settings_file) if settings.is_directory_stored else _in_file(settings)
    except Faults as error:
        return Look(list(error.faults), [], is_there=True)
    faults = check_together(settings, found.directory, settings_file=settings_file)
    # Not told at every start: what such an entry lacks is wrong only when the default is changed in the file.
    unnamed = [Fault(settings.directory_name, key, message) for key, message in unnamed_servers(found.directory)]
    warnings = (*warnings_together(settings, found.directory, settings_file), *found.warnings, *unnamed)
    missing = [Fault(settings.directory_name, key, message) for key, message in _missing_authorities(found.directory)]
    return Look(list(faults), [*warnings, *missing], found.is_there)


def _missing_authorities(directory: Directory) -> Iterator[tuple[str, str]]:
    """Yield a warning for each file of authorities that cannot be read here: no connection is trusted without it."""
    named: dict[str, list[str]] = {}
    for kind, entries in (
        ("servers", directory.servers),
        ("channels", directory.channels),
        ("agents", directory.agents),
    ):
        for name, entry in entries.items():
            if isinstance(entry, Server) and entry.ca_file:
                named.setdefault(entry.ca_file, []).append(f"{kind}.{name}.ca_file")
            if entry.incoming and entry.incoming.ca_file:
                named.setdefault(entry.incoming.ca_file, []).append(f"{kind}.{name}.incoming.ca_file")
    for path, keys in named.items():
        try:
            read_regular_file(path)
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError)
            what = f"there is no file {path}" if is_missing else f"{path} cannot be read: {error.strerror}"
            yield from ((key, f"{what}; without it no connection is made") for key in keys)


def _in_file(settings: "Settings") -> Found:
    file = DirectoryFile(settings.directory_path)
    directory = file.read().directory
    return Found(directory, file.warnings(directory), settings.directory_path.exists())


def _in_database(settings: "Settings", settings_file: str) -> Found:
    """Look into the store; its libraries are loaded only for that. Raises Faults."""
    import asyncio
    import os

    from relay.directory.database_storage import DatabaseStorage
    from relay.store.db.database import open_store
    from relay.store.db.errors import StoreError, StoreOlder
    from relay.store.people.directory import DirectoryTable

    async def look() -> Found:
        database = await open_store(settings, os.environ, upgrades=False)
        try:
            storage = DatabaseStorage(DirectoryTable(database))
            found = await storage.read()
            return Found(found.directory, await storage.warnings(found.directory), found.state != storage.absent)
        finally:
            await database.close()

    if settings.database_path is not None and not settings.database_path.exists():
        return Found(Directory(), (), is_there=False)
    try:
        return asyncio.run(look())
    except StoreOlder:  # the next start makes of it what it has to be
        return Found(Directory(), (), is_there=False)
    except StoreError as error:
        raise Faults([Fault(settings_file, "store", str(error))]) from None
