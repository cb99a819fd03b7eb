"""`relay account`: whom Relay logs in as, and who of them is held."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from typer import Argument, Context

from relay.cli import complete
from relay.cli.listing import TableRows
from relay.cli.options import AsJson, command, noun
from relay.cli.output import count, print_json, words
from relay.cli.times import moment, relative

app = noun("Accounts: whom Relay logs in as at its servers.", "relay account list")

_COLUMNS = ("account", "state", "since", "profiles", "connections")


@command(app, "list", "relay account list --json")
def list_(context: Context, as_json: AsJson = False) -> None:
    """List the accounts, and which are held since when and why."""
    records = context.obj.run("account.list")
    if as_json:
        return print_json(records)
    now = datetime.now(UTC)
    # No column may be cut: `release` wants an account as it is.
    table = TableRows(_COLUMNS, flexible=0, empty="there is no account yet")
    for record in records:
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
    released = context.obj.run("account.release", account=account)["account"]
    print(f"account {words(released)} is released")


def account_words(record: Mapping[str, Any]) -> str:
    """Return an account, with the address where only that is held."""
    return (
        f"{words(record['account'])} as {words(record['address'])}" if record["address"] else words(record["account"])
    )


def token_words(record: Mapping[str, Any], now: datetime) -> str:
    """Return in words how the token of an account is."""
    if record["state"] == "missing":
        return "nobody has authorized it yet"
    when = _lifetime(record, now) if record["refreshed"] else "not had yet"
    return f"token {when}" + (f"; {record['state']}: {words(record['error'])}" if record["error"] else "")


def _lifetime(record: Mapping[str, Any], now: datetime) -> str:
    expires = moment(record["expires"])
    verb = "expires" if expires > now else "expired"
    return f"{verb} {relative(expires, now)}, last renewed {relative(moment(record['refreshed']), now)}"


def _note(record: Mapping[str, Any], now: datetime) -> str:
    """Return what is wrong with an account, when that is tried out, and how its token is."""
    token = [token_words(record["oauth"], now)] if record["oauth"] else []
    again = f"tried again {relative(moment(record['next_probe']), now)}" if record["next_probe"] else ""
    return "; ".join([*filter(None, [words(record["reason"]), again]), *token])


def _row(record: Mapping[str, Any], now: datetime) -> list[str]:
    since = record["held_since"]
    return [
        account_words(record),
        record["state"],
        relative(moment(since), now) if since else "",
        _profiles(record["profiles"]),
        str(record["connections"]),
    ]


def _profiles(names: list[str]) -> str:
    """Return the names where they are few, their number otherwise."""
    return ", ".join(names) if len(names) <= 2 else count(len(names), "profile")
