"""`relay account`: whom Relay logs in as, and who of them is held."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from typer import Argument, Context

from relay.cli import complete
from relay.cli.listing import TableRows
from relay.cli.options import AsJson, command, noun
from relay.cli.output import count, print_json, words
from relay.cli.times import moment, relative
from relay.control.json_values import from_json, list_from_json
from relay.control.results import AccountRecord, AccountReleased, HeldAccount, TokenState

app = noun("Accounts: whom Relay logs in as at its servers.", "relay account list")

_COLUMNS = ("account", "state", "since", "profiles", "connections")


@command(app, "list", "relay account list --json")
def list_(context: Context, as_json: AsJson = False) -> None:
    """List the accounts, and which are held since when and why."""
    answer = context.obj.run("account.list")
    if as_json:
        return print_json(answer)
    now = datetime.now(UTC)
    # No column may be cut: `release` wants an account as it is.
    table = TableRows(_COLUMNS, flexible=0, empty="there is no account yet")
    for record in list_from_json(AccountRecord, answer):
        table.add(_row(record, now), _note(record, now))
    return table.close()


@command(app, "release", "relay account release acmejets/mailer@acmejets.example")
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


def _note(record: AccountRecord, now: datetime) -> str:
    """Return what is wrong with an account, when that is tried out, and how its token is."""
    token = [token_words(record.oauth, now)] if record.oauth else []
    again = f"tried again {relative(moment(record.next_probe), now)}" if record.next_probe else ""
    return "; ".join([*filter(None, [words(record.reason), again]), *token])


def _row(record: AccountRecord, now: datetime) -> list[str]:
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
