"""`relay import` and `relay directory`: entries from files of Postfix and msmtp, and the directory as a file.

Both show what they would do, and ask first on a terminal.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Context, Exit, Option

from relay.cli.invocation import Invocation
from relay.cli.output import count, print_failure, print_json, print_table, words
from relay.cli.shared import AsJson, ask_yes, command, is_person, noun
from relay.control.json_values import from_json
from relay.control.refused import Refused
from relay.control.results import DirectoryExport, DirectoryImport
from relay.system.terminal import Progress

if TYPE_CHECKING:
    from relay.moving.found import Found


import_app = noun("Take over servers and senders from files of Postfix or msmtp.", "relay import postfix /etc/postfix")

DryRun = Annotated[bool, Option("--dry-run", help="Show what it would do, and do nothing.")]
Agents = Annotated[bool, Option("--agents", help="Make agents of the senders, not channels.")]
_MOST_SHOWN = 20
_NO_NEWS = "all of it is there already; nothing was changed"


@command(import_app, "postfix", "relay import postfix /etc/postfix")
def postfix(
    context: Context,
    path: Annotated[Path, Argument(metavar="PATH", show_default=False, help="main.cf, or the folder that holds it.")],
    agents: Agents = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take over servers and senders from Postfix.

    These are relayhost, the tables by sender, and their passwords. It shows what it makes and what it leaves out, and
    asks first on a terminal. Nothing that is there is changed.
    """
    from relay.moving.files import find_postfix

    _import_found(context.obj, path, find_postfix, agents=agents, dry_run=dry_run, as_json=as_json)


@command(import_app, "msmtp", "relay import msmtp ~/.msmtprc")
def msmtp(
    context: Context,
    path: Annotated[Path, Argument(metavar="PATH", show_default=False, help="A .msmtprc, or /etc/msmtprc.")],
    agents: Agents = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take over servers and senders from the accounts of msmtp.

    It shows what it makes and what it leaves out, and asks first on a terminal. Nothing that is there is changed.
    """
    from relay.moving.files import find_msmtp

    _import_found(context.obj, path, find_msmtp, agents=agents, dry_run=dry_run, as_json=as_json)


def _import_found(
    invocation: Invocation, path: Path, find: "Callable[[Path], Found]", *, agents: bool, dry_run: bool, as_json: bool
) -> None:
    from relay.moving.found import CannotRead

    with Progress("reading"):
        try:
            found = find(path)
        except CannotRead as error:
            raise Refused(str(error)) from None
        params, notes = _params(found, path, kind="agent" if agents else "channel")
        result = invocation.run("moving.import", **params)
    result |= {"not_taken_over": notes, "suggestions": [one._asdict() for one in found.suggestions]}
    if not as_json:
        _show_entries(result)
    is_news = any(one["is_new"] for key in ("servers", "profiles") for one in result[key])
    if _is_wanted(result, is_news=is_news, dry_run=dry_run):
        with Progress("taking it over"):
            result |= invocation.run("moving.import", **params, confirm=True, expected=result["version"])
        if not as_json:
            print(_import_outcome(result) if is_news else _NO_NEWS)
    _end(invocation, result, as_json=as_json)


def _is_wanted(plan: dict[str, Any], *, is_news: bool, dry_run: bool) -> bool:
    """Whether a plan, which was shown, is to be carried out. Raises Refused where a person says no."""
    if dry_run or plan["faults"]:
        return False
    if is_news and is_person() and not ask_yes("Do this?", default=False):
        raise Refused("nothing was changed")
    return True


def _end(invocation: Invocation, result: dict[str, Any], *, as_json: bool) -> None:
    """Print the result for scripts, and for people its faults. Exit code 1 where there are any."""
    if as_json:
        print_json({"ok": not result["faults"], **{key: value for key, value in result.items() if key != "version"}})
    if not result["faults"]:
        return
    if not as_json:
        lines = [
            ": ".join(
                filter(None, (one.get("place", one.get("file")), one["key"], invocation.told(words(one["message"]))))
            )
            for one in result["faults"]
        ]
        print_failure("\n".join([*lines, "nothing was changed"]), as_json=False)
    raise Exit(1)


def _params(found: "Found", path: Path, kind: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the parameters of the operation, and what is not taken over. Raises Refused where there is nothing."""
    from relay.moving.found import profile_entries, server_entries

    notes = list(found.notes)
    profiles = profile_entries(found, notes)
    servers = server_entries(found)
    said = [{"file": place.file, "line": place.line, "message": message} for place, message in sorted(set(notes))]
    if not servers:
        reasons = "".join(f"\n{_place(one)}: {one['message']}" for one in said)
        raise Refused(
            f"{path}: no server is named there through which mail leaves, so there is nothing to take over{reasons}"
        )
    entries = [
        {"key": one.key, "values": dict(one.values), "place": str(one.place), "password": one.password}
        for one in servers
    ]
    senders = [
        {"server": one.server, "values": one.values, "place": str(one.place), "password": one.password}
        for one in profiles
    ]
    params = {"name": str(path), "servers": entries, "profiles": senders, "default": found.default or "", "kind": kind}
    return params, said


def _show_entries(result: dict[str, Any]) -> None:
    servers = [
        [
            _state(one),
            one["name"] + (" (default)" if one["default"] else ""),
            _where(one),
            _who(one) or ("" if one.get("auth") == "none" else "each sender"),
            _password(one, is_needed="username" in one),
        ]
        for one in result["servers"]
    ]
    open_to_all = {one["name"] for one in result["servers"] if one.get("auth") == "none"}
    print_table(("", "server", "connects to", "logs in as", "password"), servers, empty="")
    print()
    profiles = [
        [
            _state(one),
            f"{one['kind']} {one['name']}",
            words([one["address"], *one.get("aliases", [])]),
            str(one["server"]),
            _account(one, open_to_all),
            _password(one, is_needed=bool(one.get("override")) and one["server"] not in open_to_all),
        ]
        for one in result["profiles"]
    ]
    heads = ("", "sender", "addresses", "sends through", "logs in as", "password")
    print_table(heads, profiles, empty="no sender has a row of its own there; add one with: relay channel add")
    if result["not_taken_over"]:
        print("\nNot taken over, or not as it was:")
        for one in result["not_taken_over"]:
            print(f"  {_place(one)}: {words(one['message'])}")
    if result["suggestions"]:
        print("\nFor relay.toml, which stays as it is:")
        for one in result["suggestions"]:
            print(f"  {one['key']} = {words(one['value'])}\n    {words(one['message'])}")
    print()


def _import_outcome(result: dict[str, Any]) -> str:
    servers, profiles = ([one for one in result[key] if one["is_new"]] for key in ("servers", "profiles"))
    return f"added: {count(len(servers), 'server')}, {count(len(profiles), 'sender')}"


def _state(one: dict[str, Any]) -> str:
    return "new" if one["is_new"] else "there"


def _where(one: dict[str, Any]) -> str:
    from relay.directory.model import Security

    port = one.get("port") or Security(one["security"]).port
    host = f"[{one['host']}]" if ":" in one["host"] else one["host"]
    return f"{host}:{port} ({one['security']})"


def _who(one: dict[str, Any]) -> str:
    return words(one.get("username"))


def _account(one: dict[str, Any], open_to_all: set[str]) -> str:
    if not one.get("override"):
        return "the server"
    return "nobody" if one["server"] in open_to_all else _who(one) or "itself"


def _password(one: dict[str, Any], *, is_needed: bool) -> str:
    kept = {"vault": "vault", "password_from": "command"}
    return kept.get(one["password"] or "", "missing" if is_needed else "")


def _place(note: dict[str, Any]) -> str:
    return f"{note['file']}:{note['line']}" if note["line"] else str(note["file"])


directory_app = noun(
    "The directory between a file and the database.", "relay directory import /var/lib/relay/directory.toml"
)


@command(directory_app, "import", "relay directory import /var/lib/relay/directory.toml")
def import_directory(
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
    invocation: Invocation = context.obj
    path = file or invocation.settings.directory_path
    params = {"name": "stdin" if str(path) == "-" else str(path), "text": _read(path)}
    with Progress("reading"):
        answer = invocation.run("directory.import", **params)
    found = from_json(DirectoryImport, answer)
    if not as_json:
        _show_changes(found)
    is_news = bool(found.adds or found.changes or found.removes)
    if _is_wanted(answer, is_news=is_news, dry_run=dry_run):
        with Progress("taking it over"):
            answer = invocation.run("directory.import", **params, confirm=True, expected=found.version)
        if not as_json:
            print(invocation.told(_directory_outcome(from_json(DirectoryImport, answer), is_news=is_news)))
    _end(invocation, answer, as_json=as_json)


@command(directory_app, "export", "relay directory export directory.toml")
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
    from relay.system.files import create_private

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


def _show_changes(found: DirectoryImport) -> None:
    for sign, entries in (("+", found.adds), ("~", found.changes), ("-", found.removes)):
        for entry in entries[:_MOST_SHOWN]:
            print(f"{sign} {words(entry)}")
        if len(entries) > _MOST_SHOWN:
            print(f"{sign} and {len(entries) - _MOST_SHOWN:,} more")


def _directory_outcome(found: DirectoryImport, *, is_news: bool) -> str:
    named = (("added", found.adds), ("changed", found.changes), ("removed", found.removes))
    numbers = ", ".join(f"{len(entries):,} {name}" for name, entries in named if entries)
    done = f"entries: {numbers}" if is_news else _NO_NEWS
    if found.in_effect:
        return done
    way = 'write directory = "database" in relay.toml, and restart relay'
    return f"{done}\nto go by it, {way}"
