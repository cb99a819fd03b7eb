"""`relay status`: whether a relay runs here, and how it is."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from typer import Context, Exit, Typer

from relay.cli.account import account_words, token_words
from relay.cli.options import AsJson, command
from relay.cli.output import count, print_json, print_record, words
from relay.cli.session import Session
from relay.cli.times import moment, relative
from relay.control.json_values import as_json as as_json_of
from relay.control.json_values import from_json
from relay.control.results import (
    NOT_RUNNING,
    DirectoryState,
    HeldAccount,
    SettingsState,
    Status,
    TokenState,
    records_of,
)
from relay.control.transport.client import NoRelay

_MOST_SHOWN = 10


def register(app: Typer) -> None:
    """Add the command."""
    command(app, "status", "relay status --json")(status)


def status(context: Context, as_json: AsJson = False) -> None:
    """Show whether a relay runs here, and how it is. Exit code 1 when none runs, or its store cannot be used."""
    try:
        answer = context.obj.client.status()
    except NoRelay:
        context.obj.refuse_beside_service()
        answer = as_json_of(replace(NOT_RUNNING, directory=_directory(context.obj)))
    found = from_json(Status, answer)
    if as_json:
        print_json(answer)
    else:
        _print(found, context.obj)
    if not (found.running and found.store.ok):
        raise Exit(1)


def _print(found: Status, session: Session) -> None:
    if not found.running:
        print(f"no relay is running; start it with: {session.hint('relay serve')}")
        return
    several = {"workers": f"{len(found.workers)} processes"} if len(found.workers) > 1 else {}
    print_record(
        {
            "relay": f"{found.version}, running as process {found.pid} since {found.since}",
            **several,
            "listeners": words(found.listeners),
            "settings": _settings_words(found.settings),
            "directory": "ok" if found.directory.ok else "has faults; the one from before them is in effect",
            **_stored(found),
        }
    )
    if found.log.dropped:
        print(
            f"  the log lacks {count(found.log.dropped, 'line')}: stderr could not be written to, or its reader hangs"
        )
    _print_held(found.accounts_held, session)
    _print_tokens(found.oauth, session)
    for mailbox in found.mailboxes:
        if mailbox.reason:
            print(f"  returned mail is not looked for: {words(mailbox.reason)}")
    for fault in (*found.settings.faults, *found.directory.faults):
        print(f"  {fault.file}: {fault.key}: {fault.message}")


def _settings_words(settings: SettingsState) -> str:
    if not settings.ok:
        return "have faults; the ones from before them are in effect"
    waiting = settings.needs_restart
    return f"ok; these need a restart: {words(waiting)}" if waiting else "ok"


def _stored(found: Status) -> dict[str, str]:
    """Return what the store has to say, and what is wrong with it."""
    store = found.store
    trouble = {} if store.ok else {"store": f"{store.reason}: {words(store.trouble)}"}
    if not found.queue:  # nothing could be read
        return trouble
    held = count(len(found.accounts_held), "account") if found.accounts_held else "no account"
    return {**trouble, "queue": _queue(found), "held": held}


def _queue(found: Status) -> str:
    """Return how many messages wait in which state, and for how long the oldest has."""
    counts = ", ".join(f"{number} {state}" for state, number in found.queue.items() if number)
    if not counts or found.oldest is None:
        return "empty"
    return f"{counts}; the oldest came {relative(moment(found.oldest), datetime.now(UTC))}"


def _print_held(accounts: Sequence[HeldAccount], session: Session) -> None:
    for account in accounts[:_MOST_SHOWN]:
        print(f"  {account_words(account)}, {relative(moment(account.held_since), datetime.now(UTC))}:")
        print(f"    {words(account.reason)}")
    if len(accounts) > _MOST_SHOWN:
        print(f"  and {len(accounts) - _MOST_SHOWN} more: {session.hint('relay account list')}")


def _print_tokens(tokens: Sequence[TokenState], session: Session) -> None:
    """Say how the tokens of accounts that log in by OAuth are, those in trouble first."""
    now = datetime.now(UTC)
    for token in sorted(tokens, key=lambda one: one.state == "ok")[:_MOST_SHOWN]:
        print(f"  {words(token.account)}: {token_words(token, now)}")
    if len(tokens) > _MOST_SHOWN:
        print(f"  and {len(tokens) - _MOST_SHOWN} more: {session.hint('relay account list')}")


def _directory(session: Session) -> DirectoryState:
    """Return what a relay would say about the directory if it ran."""
    from relay.cli.look import look_at_directory

    faults = look_at_directory(session.settings, session.settings_name).faults
    return DirectoryState(ok=not faults, faults=records_of(faults))
