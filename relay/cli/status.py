"""`relay status`: whether a relay runs here, and how it is."""

from datetime import UTC, datetime
from typing import Any

from typer import Context, Exit, Typer

from relay.cli.account import account_words, token_words
from relay.cli.options import AsJson, command
from relay.cli.output import count, fault_record, print_json, print_record, words
from relay.cli.session import Session
from relay.cli.times import moment, relative
from relay.control.not_running import NOT_RUNNING
from relay.control.transport.client import NoRelay

_MOST_SHOWN = 10


def register(app: Typer) -> None:
    """Add the command."""
    command(app, "status", "relay status --json")(status)


def status(context: Context, as_json: AsJson = False) -> None:
    """Show whether a relay runs here, and how it is. Exit code 1 when none runs, or its store cannot be used."""
    try:
        found = context.obj.client.status()
    except NoRelay:
        context.obj.refuse_beside_service()
        found = {**NOT_RUNNING, "directory": _directory(context.obj)}
    if as_json:
        print_json(found)
    else:
        _print(found, context.obj)
    if not (found["running"] and found["store"]["ok"]):
        raise Exit(1)


def _print(found: dict[str, Any], session: Session) -> None:
    if not found["running"]:
        print(f"no relay is running; start it with: {session.hint('relay serve')}")
        return
    directory = found["directory"]
    workers = found["workers"]
    several = {"workers": f"{len(workers)} processes"} if len(workers) > 1 else {}
    print_record(
        {
            "relay": f"{found['version']}, running as process {found['pid']} since {found['since']}",
            **several,
            "listeners": words(found["listeners"]),
            "settings": _settings_words(found["settings"]),
            "directory": "ok" if directory["ok"] else "has faults; the one from before them is in effect",
            **_stored(found),
        }
    )
    if dropped := found["log"]["dropped"]:
        print(f"  the log lacks {count(dropped, 'line')}: stderr could not be written to, or its reader hangs")
    _print_held(found["accounts_held"], session)
    _print_tokens(found["oauth"], session)
    for mailbox in found["mailboxes"]:
        if mailbox["reason"]:
            print(f"  returned mail is not looked for: {words(mailbox['reason'])}")
    for fault in (*found["settings"]["faults"], *directory["faults"]):
        print(f"  {fault['file']}: {fault['key']}: {fault['message']}")


def _settings_words(settings: dict[str, Any]) -> str:
    if not settings["ok"]:
        return "have faults; the ones from before them are in effect"
    waiting = settings["needs_restart"]
    return f"ok; these need a restart: {words(waiting)}" if waiting else "ok"


def _stored(found: dict[str, Any]) -> dict[str, str]:
    """Return what the store has to say, and what is wrong with it."""
    store = found["store"]
    trouble = {} if store["ok"] else {"store": f"{store['reason']}: {words(store['trouble'])}"}
    if not found["queue"]:  # nothing could be read
        return trouble
    held = count(len(found["accounts_held"]), "account") if found["accounts_held"] else "no account"
    return {**trouble, "queue": _queue(found), "held": held}


def _queue(found: dict[str, Any]) -> str:
    """Return how many messages wait in which state, and for how long the oldest has."""
    counts = ", ".join(f"{number} {state}" for state, number in found["queue"].items() if number)
    if not counts:
        return "empty"
    return f"{counts}; the oldest came {relative(moment(found['oldest']), datetime.now(UTC))}"


def _print_held(accounts: list[dict[str, Any]], session: Session) -> None:
    for account in accounts[:_MOST_SHOWN]:
        print(f"  {account_words(account)}, {relative(moment(account['held_since']), datetime.now(UTC))}:")
        print(f"    {words(account['reason'])}")
    if len(accounts) > _MOST_SHOWN:
        print(f"  and {len(accounts) - _MOST_SHOWN} more: {session.hint('relay account list')}")


def _print_tokens(records: list[dict[str, Any]], session: Session) -> None:
    """Say how the tokens of accounts that log in by OAuth are, those in trouble first."""
    now = datetime.now(UTC)
    for record in sorted(records, key=lambda one: one["state"] == "ok")[:_MOST_SHOWN]:
        print(f"  {words(record['account'])}: {token_words(record, now)}")
    if len(records) > _MOST_SHOWN:
        print(f"  and {len(records) - _MOST_SHOWN} more: {session.hint('relay account list')}")


def _directory(session: Session) -> dict[str, Any]:
    """Return what a relay would say about the directory if it ran."""
    from relay.cli.look import look_at_directory

    faults = look_at_directory(session.settings, session.settings_name).faults
    return {"ok": not faults, "faults": [fault_record(fault) for fault in faults]}
