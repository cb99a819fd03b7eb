"""`relay directory`: the directory between a file and the database."""

import os
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Exit, Option

from relay.cli.ask import ask_yes, is_person
from relay.cli.options import AsJson, command, noun
from relay.cli.output import print_failure, print_json, words
from relay.cli.session import Session
from relay.control.json_values import from_json
from relay.control.refused import Refused
from relay.control.results import DirectoryExport, DirectoryImport
from relay.system.terminal import Progress

app = noun("The directory between a file and the database.", "relay directory import /var/lib/relay/directory.toml")

_MOST_SHOWN = 20


@command(app, "import", "relay directory import /var/lib/relay/directory.toml")
def import_(
    context: Context,
    file: Annotated[
        Path | None,
        Argument(
            metavar="FILE", show_default=False, help="A directory.toml, or - for stdin. Default: the one in state_dir."
        ),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Show what it would do, and do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let the directory in the database be what a file says.

    It shows what it adds, changes and removes, and asks first on a terminal. Passwords stay in the vault as they are.
    The relay goes by it where relay.toml says directory = "database".
    """
    session: Session = context.obj
    path = file or session.settings.directory_path
    params = {"name": "stdin" if str(path) == "-" else str(path), "text": _read(path)}
    with Progress("reading"):
        answer = session.run("directory.import", **params)
    found = from_json(DirectoryImport, answer)
    if not as_json:
        _show(found)
    is_news = bool(found.adds or found.changes or found.removes)
    is_wanted = not dry_run and not found.faults
    if is_wanted and is_news and is_person() and not ask_yes("Do this?", default=False):
        raise Refused("nothing was changed")
    if is_wanted:
        with Progress("taking it over"):
            answer = session.run("directory.import", **params, confirm=True, expected=found.version)
        found = from_json(DirectoryImport, answer)
    if as_json:
        print_json({"ok": not found.faults, **{key: value for key, value in answer.items() if key != "version"}})
    elif is_wanted:
        print(session.told(_outcome(found, is_news=is_news)))
    if found.faults:
        if not as_json:
            print_failure(_faults(session, found), as_json=False)
        raise Exit(1)


@command(app, "export", "relay directory export directory.toml")
def export(
    context: Context,
    file: Annotated[
        Path | None,
        Argument(metavar="FILE", show_default=False, help="A file that is not there yet. Default: stdout."),
    ] = None,
) -> None:
    """Write the directory in the database as a directory.toml.

    To import it again changes nothing. Passwords are not in it.
    """
    found = from_json(DirectoryExport, context.obj.run("directory.export"))
    if file is None or str(file) == "-":
        print(found.text, end="")
        return
    from relay.system.file_modes import create_private

    try:
        descriptor = create_private(file)
    except FileExistsError:
        raise Refused(f"{file} is there already, and nothing is overwritten; name another file") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as new:
        new.write(found.text)
        new.flush()
        os.fsync(new.fileno())
    print(f"wrote {file}: {found.database}")


def _read(path: Path) -> str:
    """Return what a file says. Raises OSError, and Refused where it is no text."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(f"{path} is no UTF-8 text; write it as UTF-8") from None


def _show(found: DirectoryImport) -> None:
    for sign, entries in (("+", found.adds), ("~", found.changes), ("-", found.removes)):
        for entry in entries[:_MOST_SHOWN]:
            print(f"{sign} {words(entry)}")
        if len(entries) > _MOST_SHOWN:
            print(f"{sign} and {len(entries) - _MOST_SHOWN:,} more")


def _outcome(found: DirectoryImport, *, is_news: bool) -> str:
    named = (("added", found.adds), ("changed", found.changes), ("removed", found.removes))
    numbers = ", ".join(f"{len(entries):,} {name}" for name, entries in named if entries)
    done = f"entries: {numbers}" if is_news else "all of it is there already; nothing was changed"
    if found.in_effect:
        return done
    way = 'write directory = "database" in relay.toml, and restart relay'
    return f"{done}\nto go by it, {way}"


def _faults(session: Session, found: DirectoryImport) -> str:
    lines = [
        ": ".join(filter(None, (fault.file, fault.key, session.told(words(fault.message))))) for fault in found.faults
    ]
    return "\n".join([*lines, "nothing was changed"])
