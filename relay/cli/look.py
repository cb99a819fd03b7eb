"""The directory as `check` and `status` look at it where no relay runs: nothing is made, and nothing is changed."""

from typing import TYPE_CHECKING, NamedTuple

from relay.directory.file import DirectoryFile
from relay.directory.model import Directory
from relay.directory.server_rules import unnamed_servers
from relay.directory.together import check_together, warnings_together
from relay.faults import Fault, Faults

if TYPE_CHECKING:
    from relay.settings import Settings


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
    return Look(list(faults), list(warnings), found.is_there)


def _in_file(settings: "Settings") -> Found:
    file = DirectoryFile(settings.directory_path)
    directory = file.read().directory
    return Found(directory, file.warnings(directory), settings.directory_path.exists())


def _in_database(settings: "Settings", settings_file: str) -> Found:
    """Look into the store; its libraries are loaded only for that. Raises Faults."""
    import asyncio
    import os

    from relay.directory.in_database import InDatabase
    from relay.store.directory import DirectoryTable
    from relay.store.errors import StoreError, StoreOlder
    from relay.store.opening import open_store

    async def look() -> Found:
        database = await open_store(settings, os.environ, upgrades=False)
        try:
            keeper = InDatabase(DirectoryTable(database))
            found = await keeper.read()
            return Found(found.directory, await keeper.warnings(found.directory), found.state != keeper.nothing)
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
