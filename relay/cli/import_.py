"""`relay import`: who sends by which server and account, from the files of Postfix and msmtp."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Context, Exit, Option

from relay.cli.ask import ask_yes, is_person
from relay.cli.options import AsJson, command, noun
from relay.cli.output import count, print_failure, print_json, print_table, words
from relay.cli.session import Session
from relay.control.refused import Refused
from relay.system.terminal import Progress

if TYPE_CHECKING:
    from relay.moving.found import Found

app = noun("Take over servers and senders from files of Postfix or msmtp.", "relay import postfix /etc/postfix")

DryRun = Annotated[bool, Option("--dry-run", help="Show what it would do, and do nothing.")]
Agents = Annotated[bool, Option("--agents", help="Make agents of the senders, not channels.")]


@command(app, "postfix", "relay import postfix /etc/postfix")
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

    _import(context.obj, path, find_postfix, agents=agents, dry_run=dry_run, as_json=as_json)


@command(app, "msmtp", "relay import msmtp ~/.msmtprc")
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

    _import(context.obj, path, find_msmtp, agents=agents, dry_run=dry_run, as_json=as_json)


def _import(
    session: Session, path: Path, find: "Callable[[Path], Found]", *, agents: bool, dry_run: bool, as_json: bool
) -> None:
    from relay.moving.found import CannotRead

    with Progress("reading"):
        try:
            found = find(path)
        except CannotRead as error:
            raise Refused(str(error)) from None
        params, notes = _params(found, path, kind="agent" if agents else "channel")
        result = session.run("moving.import", **params)
    result |= {"not_taken_over": notes, "suggestions": [one._asdict() for one in found.suggestions]}
    is_wanted = not dry_run and not result["faults"]
    if not as_json:
        _show(result)
    if is_wanted and _is_news(result) and is_person() and not ask_yes("Do this?", default=False):
        raise Refused("nothing was changed")
    if is_wanted:
        with Progress("taking it over"):
            result |= session.run("moving.import", **params, confirm=True, expected=result["version"])
    if as_json:
        print_json({"ok": not result["faults"], **{key: value for key, value in result.items() if key != "version"}})
    elif is_wanted:
        print(_outcome(result))
    if result["faults"]:
        if not as_json:
            print_failure(_faults(session, result), as_json=False)
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


def _show(result: dict[str, Any]) -> None:
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


def _faults(session: Session, result: dict[str, Any]) -> str:
    lines = [
        ": ".join(filter(None, (fault["place"], fault["key"], session.told(words(fault["message"])))))
        for fault in result["faults"]
    ]
    return "\n".join([*lines, "nothing was changed"])


def _outcome(result: dict[str, Any]) -> str:
    servers, profiles = ([one for one in result[key] if one["is_new"]] for key in ("servers", "profiles"))
    if not _is_news(result):
        return "all of it is there already; nothing was changed"
    return f"added: {count(len(servers), 'server')}, {count(len(profiles), 'sender')}"


def _is_news(result: dict[str, Any]) -> bool:
    return any(one["is_new"] for key in ("servers", "profiles") for one in result[key])


def _state(one: dict[str, Any]) -> str:
    return "new" if one["is_new"] else "there"


def _where(one: dict[str, Any]) -> str:
    port = one.get("port") or {"none": 25, "starttls": 587, "tls": 465}[one["security"]]
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
