"""`relay check`: every fault of relay.toml, directory.toml and the modes of the secret files, at once."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Context, Exit, Option, Typer

from relay.cli.options import AsJson, command
from relay.cli.output import count, fault_record, print_json, words
from relay.cli.session import Session
from relay.config.faults import Fault, Faults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay.config.settings import Settings, Tls


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

    session: Session = context.obj
    if store:
        _check_store(session, as_json=as_json)
        return
    faults, warnings, is_there = all_faults(session)
    if as_json:
        print_json({"ok": not faults, "faults": [fault_record(fault) for fault in faults]})
    else:
        for warning in warnings:
            print(session.told(f"warning: {warning}"), file=sys.stderr)
        for fault in faults:
            print(session.told(str(fault)), file=sys.stderr)
        if not faults:
            where = session.settings_file or "the default settings"
            print(f"no fault in {where}{_directory(session, is_there=is_there)}")
            if note := left_out(session.settings):
                print(note)
    raise Exit(1 if faults else 0)


def _check_store(session: Session, *, as_json: bool) -> None:
    """Say what of the store is damaged. Exit code 1 where anything is."""
    from relay.control.json_values import from_json
    from relay.control.results import StoreCheck

    answer = session.run("store.check")
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


def all_faults(session: Session) -> tuple[list[Fault], list[Fault], bool]:
    """Return every fault, and every warning, of what a relay with these settings would use.

    And whether there is a directory.
    """
    from relay.cli.look import look_at_directory
    from relay.config.certificate import check_certificate
    from relay.config.settings import check_modes, load_settings

    faults: list[Fault] = []
    settings: Settings | None
    try:
        settings = load_settings(session.settings_file)
    except Faults as error:
        faults += error.faults
        settings = _where_it_is(session)
    if settings is None:
        return faults, [], True
    settings_file = str(session.settings_file or "relay.toml")
    found = look_at_directory(settings, settings_file)
    of_certificate, certificate_warnings = check_certificate(settings.tls, settings_file)
    faults += [*of_certificate, *found.faults, *check_modes(settings)]
    return faults, [*_unset_key(settings, settings_file), *certificate_warnings, *found.warnings], found.is_there


def _unset_key(settings: "Settings", settings_file: str) -> list[Fault]:
    """Return a warning where the master key comes from a variable that is not set here; the service may have it."""
    kind, _, name = settings.secrets.master_key.partition(":")
    if kind != "env" or os.environ.get(name):
        return []
    message = f"the variable {name} is not set here; make sure that the service has it, or no password can be read"
    return [Fault(settings_file, "secrets.master_key", message)]


def _where_it_is(session: Session) -> "Settings | None":
    """Return settings that only say where files are, read from a settings file with faults elsewhere."""
    from relay.config.schema import read_toml
    from relay.config.settings import load_settings

    if session.settings_file is None:
        return None
    try:
        table = read_toml(session.settings_file)
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


def _named_files(table: "Mapping[str, Any]") -> "Tls":
    """Return the TLS files that a table of settings names, so far as it does."""
    from relay.config.settings import Tls

    tls = table.get("tls")
    found = {key: tls.get(key) for key in ("certificate", "key")} if isinstance(tls, dict) else {}
    return Tls(**{key: path for key, path in found.items() if isinstance(path, str) and path.startswith("/")})


def _directory(session: Session, *, is_there: bool) -> str:
    name = session.settings.directory_name
    if is_there:
        return f" and {name}"
    if session.service_socket is not None:
        return (
            "; the directory of this machine's service was not looked at, as only root and its owner may: "
            f"{session.hint('sudo relay check')}"
        )
    return f" and {name} (which is not there yet: nobody can send)"
