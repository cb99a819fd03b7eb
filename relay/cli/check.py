"""`relay check` and `relay config`: every fault of the files and their modes at once, and the settings in effect.

The directory is looked at where no relay runs, too: nothing is made, and nothing is changed.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from typer import Context, Exit, Option, Typer

from relay.cli.invocation import Invocation
from relay.cli.output import count, fault_record, print_json, words
from relay.cli.shared import AsJson, command, noun
from relay.config.faults import Fault, Faults

if TYPE_CHECKING:
    from relay.config.environment import Location
    from relay.config.settings import Settings, Tls
    from relay.directory.directory import Directory


class _FoundDirectory(NamedTuple):
    """What is there; nothing where nobody has made it yet."""

    directory: "Directory"
    warnings: tuple[Fault, ...]
    is_there: bool


class CheckResult(NamedTuple):
    """What is wrong with the files, and what is not good; `is_there`: whether there is a directory."""

    faults: list[Fault]
    warnings: list[Fault]
    is_there: bool


def register(app: Typer) -> None:
    """Add the command."""
    command(app, "check", "relay check --config /etc/relay/relay.toml")(check)


def check(
    context: Context,
    store: Annotated[
        bool, Option("--store", help="Look through the store instead: every message that waits, and the database.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Name every fault of the settings and the directory. With --store: damage of what is stored."""
    from relay.config.settings import left_out

    invocation: Invocation = context.obj
    if store:
        _check_store(invocation, as_json=as_json)
        return
    found = check_files(invocation)
    if as_json:
        print_json({"ok": not found.faults, "faults": [fault_record(fault) for fault in found.faults]})
    else:
        for warning in found.warnings:
            print(invocation.told(f"warning: {warning}"), file=sys.stderr)
        for fault in found.faults:
            print(invocation.told(str(fault)), file=sys.stderr)
        if not found.faults:
            where = invocation.settings_file or "the default settings"
            print(f"no fault in {where}{_directory(invocation, is_there=found.is_there)}")
            if note := left_out(invocation.settings):
                print(note)
    raise Exit(1 if found.faults else 0)


def _check_store(invocation: Invocation, *, as_json: bool) -> None:
    """Say what of the store is damaged. Exit code 1 where anything is."""
    from relay.control.json_values import from_json
    from relay.control.results import StoreCheck

    answer = invocation.run("store.check")
    found = from_json(StoreCheck, answer)
    if as_json:
        print_json(answer)
    else:
        for line in found.structure:
            print(f"the database is damaged: {words(line)}", file=sys.stderr)
        for one in found.damaged:
            print(f"message {one.id} is damaged: {words(one.reason)}", file=sys.stderr)
        older = f", and {count(found.unchecked, 'message')} of an older relay without a digest" * (found.unchecked > 0)
        print(f"{count(found.messages, 'message')} with {found.octets} octets as they came{older}")
    raise Exit(0 if found.ok else 1)


def check_files(invocation: Invocation) -> CheckResult:
    """Return what is wrong, or not good, with all that a relay with these settings would use."""
    from relay.config.certificate import check_certificate
    from relay.config.settings import check_modes, load_settings

    faults: list[Fault] = []
    settings: Settings | None
    try:
        settings = load_settings(invocation.settings_file)
    except Faults as error:
        faults += error.faults
        settings = _where_it_is(invocation)
    if settings is None:
        return CheckResult(faults, [], is_there=True)
    settings_file = str(invocation.settings_file or "relay.toml")
    found = check_directory(settings, settings_file)
    of_certificate, certificate_warnings = check_certificate(settings.tls, settings_file)
    faults += [*of_certificate, *found.faults, *check_modes(settings)]
    warnings = [*_unset_key(settings, settings_file), *certificate_warnings, *found.warnings]
    return CheckResult(faults, warnings, found.is_there)


def _unset_key(settings: "Settings", settings_file: str) -> list[Fault]:
    """Return a warning where the master key comes from a variable that is not set here; the service may have it."""
    kind, _, name = settings.secrets.master_key.partition(":")
    if kind != "env" or os.environ.get(name):
        return []
    message = f"the variable {name} is not set here; make sure that the service has it, or no password can be read"
    return [Fault(settings_file, "secrets.master_key", message)]


def _where_it_is(invocation: Invocation) -> "Settings | None":
    """Return settings that only say where files are, read from a settings file with faults elsewhere."""
    from relay.config.schema import read_toml
    from relay.config.settings import load_settings

    if invocation.settings_file is None:
        return None
    try:
        table = read_toml(invocation.settings_file)
    except Faults:
        return None
    settings = replace(load_settings(None), tls=_named_files(table))
    state_dir, directory = table.get("state_dir"), table.get("directory")
    if isinstance(state_dir, str) and state_dir.startswith("/"):
        settings = replace(settings, state_dir=Path(state_dir))
    if directory == "database":  # where that is may be what is wrong
        return None
    if isinstance(directory, str) and directory:
        settings = replace(settings, directory=directory)
    return settings


def _named_files(table: Mapping[str, Any]) -> "Tls":
    """Return the TLS files that a table of settings names, so far as it does."""
    from relay.config.settings import Tls

    tls = table.get("tls")
    found = {key: tls.get(key) for key in ("certificate", "key")} if isinstance(tls, dict) else {}
    return Tls(**{key: path for key, path in found.items() if isinstance(path, str) and path.startswith("/")})


def _directory(invocation: Invocation, *, is_there: bool) -> str:
    name = invocation.settings.directory_name
    if is_there:
        return f" and {name}"
    if invocation.service_socket is not None:
        return (
            "; the directory of this machine's service was not looked at, as only root and its owner may: "
            f"{invocation.hint('sudo relay check')}"
        )
    return f" and {name} (which is not there yet: nobody can send)"


def check_directory(settings: "Settings", settings_file: str) -> CheckResult:
    """Return what a relay with these settings would find, but for the faults of relay.toml by itself."""
    from relay.directory.rules.servers import unnamed_servers
    from relay.directory.rules.validation import check_together, warnings_together

    try:
        found = _in_database(settings, settings_file) if settings.is_directory_stored else _in_file(settings)
    except Faults as error:
        return CheckResult(list(error.faults), [], is_there=True)
    faults = check_together(settings, found.directory, settings_file=settings_file)
    # Not told at every start: what such an entry lacks is wrong only when the default is changed in the file.
    unnamed = [Fault(settings.directory_name, key, message) for key, message in unnamed_servers(found.directory)]
    warnings = (*warnings_together(settings, found.directory, settings_file), *found.warnings, *unnamed)
    missing = [Fault(settings.directory_name, key, message) for key, message in _missing_authorities(found.directory)]
    return CheckResult(list(faults), [*warnings, *missing], found.is_there)


def _missing_authorities(directory: "Directory") -> Iterator[tuple[str, str]]:
    """Yield a warning for each file of authorities that cannot be read here: no connection is trusted without it."""
    from relay.directory.model import Server
    from relay.system.files import read_regular_file

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


def _in_file(settings: "Settings") -> _FoundDirectory:
    from relay.directory.file import DirectoryFile

    file = DirectoryFile(settings.directory_path)
    directory = file.read().directory
    return _FoundDirectory(directory, file.warnings(directory), settings.directory_path.exists())


def _in_database(settings: "Settings", settings_file: str) -> _FoundDirectory:
    """Look into the store; its libraries are loaded only for that. Raises Faults."""
    import asyncio

    from relay.directory.database_storage import DatabaseStorage
    from relay.directory.directory import Directory
    from relay.store.db.database import open_store
    from relay.store.db.errors import StoreError, StoreOlder
    from relay.store.people.directory import DirectoryTable

    async def look() -> _FoundDirectory:
        database = await open_store(settings, os.environ, upgrades=False)
        try:
            storage = DatabaseStorage(DirectoryTable(database))
            found = await storage.read()
            return _FoundDirectory(
                found.directory, await storage.warnings(found.directory), found.state != storage.absent
            )
        finally:
            await database.close()

    if settings.database_path is not None and not settings.database_path.exists():
        return _FoundDirectory(Directory(), (), is_there=False)
    try:
        return asyncio.run(look())
    except StoreOlder:  # the next start makes of it what it has to be
        return _FoundDirectory(Directory(), (), is_there=False)
    except StoreError as error:
        raise Faults([Fault(settings_file, "store", str(error))]) from None


config_app = noun("Settings: what relay.toml and its defaults come to.", "relay config show")


@command(config_app, "show", "relay config show")
def show_settings(context: Context, as_json: AsJson = False) -> None:
    """Show every setting in effect and what sets it, with secrets masked."""
    from relay.config.settings import shown_table, where_from

    invocation = context.obj
    table = shown_table(invocation.settings)
    if as_json:
        return print_json(table)
    from tomli_w import dumps

    print(f"# {invocation.settings_file or 'no settings file; these are the defaults'}")
    return print(_with_origins(dumps(table), where_from(invocation.settings_file)), end="")


def _with_origins(text: str, variables: "Mapping[Location, str]") -> str:
    """Return TOML with the variable behind each value that comes from the environment, or behind the head of a list."""
    place: Location = ()
    counts: dict[str, int] = {}
    lines = []
    for line in text.splitlines():
        if found := re.fullmatch(r"\[\[(\w+)\]\]", line):
            number = counts[found[1]] = counts.get(found[1], -1) + 1
            place = (found[1], number)
        elif found := re.fullmatch(r"\[(\w+)\]", line):
            place = (found[1],)
        key = re.match(r"(\w+) = ", line)
        variable = variables.get((*place, key[1]) if key else place, "")
        if place and not key and len(place) == 2 and not line.startswith("[["):
            variable = ""
        lines.append(f"{line}  # {variable}" if variable and line else line)
    return "\n".join(lines) + "\n"
