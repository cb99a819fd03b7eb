"""`relay status`, `relay account`, `relay node`: how the relay is, whom it logs in as, and who shares its store."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from typer import Argument, Context, Exit, Option, Typer

from relay.cli import complete
from relay.cli.invocation import Invocation
from relay.cli.output import TableRows, count, moment, print_json, print_record, relative, words
from relay.cli.shared import AsJson, command, noun
from relay.control.json_values import as_json as as_json_of
from relay.control.json_values import from_json, list_from_json
from relay.control.results import (
    NOT_RUNNING,
    AccountRecord,
    AccountReleased,
    DirectoryState,
    HeldAccount,
    NodeRecord,
    SettingsState,
    Status,
    TokenState,
    records_of,
)
from relay.control.transport.client import NoRelay

account_app = noun("Accounts: whom Relay logs in as at its servers.", "relay account list")

_ACCOUNT_COLUMNS = ("account", "state", "since", "profiles", "connections")
_NODE_COLUMNS = ("node", "state", "version", "seen", "since", "leads", "workers", "clients", "messages")
_MOST_SHOWN = 10


@command(account_app, "list", "relay account list --json")
def list_accounts(context: Context, as_json: AsJson = False) -> None:
    """List the accounts, and which are held since when and why."""
    answer = context.obj.run("account.list")
    if as_json:
        return print_json(answer)
    now = datetime.now(UTC)
    # No column may be cut: `release` wants an account as it is.
    table = TableRows(_ACCOUNT_COLUMNS, flexible=0, empty="there is no account yet")
    for record in list_from_json(AccountRecord, answer):
        table.add(_account_row(record, now), _account_note(record, now))
    return table.close()


@command(account_app, "release", "relay account release acmejets/mailer@acmejets.example")
def release(
    context: Context,
    account: Annotated[
        str,
        Argument(
            metavar="SERVER/USERNAME",
            autocompletion=complete.accounts,
            help="As `account list` has it.",
            show_default=False,
        ),
    ],
) -> None:
    """Let the mail of a held account go on, with a new login."""
    released = from_json(AccountReleased, context.obj.run("account.release", account=account))
    print(f"account {words(released.account)} is released")


def account_words(record: AccountRecord | HeldAccount) -> str:
    """Return an account, with the address where only that is held."""
    return f"{words(record.account)} as {words(record.address)}" if record.address else words(record.account)


def token_words(token: TokenState, now: datetime) -> str:
    """Return in words how the token of an account is."""
    if token.state == "missing":
        return "nobody has authorized it yet"
    return f"token {_lifetime(token, now)}" + (f"; {token.state}: {words(token.error)}" if token.error else "")


def _lifetime(token: TokenState, now: datetime) -> str:
    if not (token.refreshed and token.expires):
        return "not had yet"
    expires = moment(token.expires)
    verb = "expires" if expires > now else "expired"
    return f"{verb} {relative(expires, now)}, last renewed {relative(moment(token.refreshed), now)}"


def _account_note(record: AccountRecord, now: datetime) -> str:
    """Return what is wrong with an account, when that is tried out, and how its token is."""
    token = [token_words(record.oauth, now)] if record.oauth else []
    again = f"tried again {relative(moment(record.next_probe), now)}" if record.next_probe else ""
    return "; ".join([*filter(None, [words(record.reason), again]), *token])


def _account_row(record: AccountRecord, now: datetime) -> list[str]:
    since = record.held_since
    return [
        account_words(record),
        record.state,
        relative(moment(since), now) if since else "",
        _profiles(record.profiles),
        str(record.connections),
    ]


def _profiles(names: Sequence[str]) -> str:
    """Return the names where they are few, their number otherwise."""
    return ", ".join(names) if len(names) <= 2 else count(len(names), "profile")


node_app = noun("Nodes: the relays that share a store.", "relay node list")


@command(node_app, "list", "relay node list --json")
def list_nodes(context: Context, as_json: AsJson = False) -> None:
    """List the nodes, and what each of them does.

    That is: whether it leads (does for all what must be done once: probes, mailboxes of returned mail, tokens ahead,
    deletions), its processes, its clients, and the messages that it hands over now.
    """
    answer = context.obj.run("node.list")
    if as_json:
        return print_json(answer)
    now = datetime.now(UTC)
    table = TableRows(_NODE_COLUMNS, flexible=0, empty="no relay has used this store yet")
    for record in list_from_json(NodeRecord, answer):
        table.add(_node_row(record, now), _node_note(record))
    return table.close()


@command(node_app, "drain", "relay node drain one")
def drain(
    context: Context,
    name: Annotated[
        str, Argument(metavar="NAME", autocompletion=complete.nodes, help="As `node list` has it.", show_default=False)
    ],
    undo: Annotated[bool, Option("--undo", help="Let it take clients and mail again.")] = False,
) -> None:
    """Let a node end what it has, and take nothing new.

    It takes no more clients (421) and no mail from the queue, until that is undone or it starts anew.
    """
    record = from_json(NodeRecord, context.obj.run("node.drain", name=name, undo=undo))
    if undo:
        print(f"node {words(record.name)} serves again")
    else:
        print(f"node {words(record.name)} is drained; when it has no messages, stop it: {_look(context)}")


def _look(context: Context) -> str:
    return str(context.obj.hint("relay node list"))


def _node_row(record: NodeRecord, now: datetime) -> list[str]:
    return [
        words(record.name),
        record.state,
        words(record.version),
        relative(moment(record.seen), now),
        relative(moment(record.since), now),
        "yes" if record.leads else "",
        str(record.workers),
        str(record.clients),
        str(record.messages),
    ]


def _node_note(record: NodeRecord) -> str:
    """Return what is to come."""
    if record.drain and record.state == "serving":
        return "is to be drained, and has not heard of it yet"
    return ""


def register(app: Typer) -> None:
    """Add the command."""
    command(app, "status", "relay status --json")(status)


def status(context: Context, as_json: AsJson = False) -> None:
    """Show whether a relay runs here, and how it is. Exit code 1 when none runs."""
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
    if not found.running:
        raise Exit(1)


def _print(found: Status, invocation: Invocation) -> None:
    if not found.running:
        print(f"no relay is running; start it with: {invocation.hint('relay serve')}")
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
    _print_held(found.accounts_held, invocation)
    for one in found.unreached:
        meanwhile = f"its mail goes by {words(one.backup)}" if one.backup else "its mail waits"
        since = relative(moment(one.since), datetime.now(UTC))
        print(f"  server {words(one.server)} cannot be reached, {since}; {meanwhile}:")
        print(f"    {words(one.reason)}")
    _print_tokens(found.oauth, invocation)
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


def _print_held(accounts: Sequence[HeldAccount], invocation: Invocation) -> None:
    for account in accounts[:_MOST_SHOWN]:
        print(f"  {account_words(account)}, {relative(moment(account.held_since), datetime.now(UTC))}:")
        print(f"    {words(account.reason)}")
    if len(accounts) > _MOST_SHOWN:
        print(f"  and {len(accounts) - _MOST_SHOWN} more: {invocation.hint('relay account list')}")


def _print_tokens(tokens: Sequence[TokenState], invocation: Invocation) -> None:
    """Say how the tokens of accounts that log in by OAuth are, those in trouble first."""
    now = datetime.now(UTC)
    for token in sorted(tokens, key=lambda one: one.state == "ok")[:_MOST_SHOWN]:
        print(f"  {words(token.account)}: {token_words(token, now)}")
    if len(tokens) > _MOST_SHOWN:
        print(f"  and {len(tokens) - _MOST_SHOWN} more: {invocation.hint('relay account list')}")


def _directory(invocation: Invocation) -> DirectoryState:
    """Return what a relay would say about the directory if it ran."""
    from relay.cli.check import check_directory

    faults = check_directory(invocation.settings, invocation.settings_name).faults
    return DirectoryState(ok=not faults, faults=records_of(faults))
