"""`relay token`: with what programs come in to the API."""

from datetime import UTC, datetime
from typing import Annotated

from typer import Context, Option

from relay.cli import complete
from relay.cli.options import AsJson, Name, command, noun
from relay.cli.output import print_json, print_table
from relay.cli.times import moment, relative
from relay.control.json_values import from_json, list_from_json
from relay.control.people.results import AddedToken, TokenRecord

app = noun("Tokens: with what programs come in to the API.", "relay token list")
_EXAMPLE = "monitoring"


@command(app, "add", f"relay token add {_EXAMPLE}")
def add(
    context: Context,
    name: Name,
    role: Annotated[
        str,
        Option(
            "--role",
            metavar="R",
            autocompletion=complete.one_of(*complete.ROLES),
            help="viewer, which may look and change nothing, or administrator.",
        ),
    ] = "viewer",
    as_json: AsJson = False,
) -> None:
    """Add a token, and print it: this once, nobody can look it up later."""
    answer = context.obj.run("token.add", name=name, role=role)
    print_json(answer) if as_json else print(from_json(AddedToken, answer).token)


@command(app, "list", "relay token list --json")
def list_(context: Context, as_json: AsJson = False) -> None:
    """List the tokens by their names."""
    answer = context.obj.run("token.list")
    if as_json:
        return print_json(answer)
    now = datetime.now(UTC)
    rows = [
        [
            one.name,
            one.role,
            relative(moment(one.created), now),
            relative(moment(one.used), now) if one.used else "never",
        ]
        for one in list_from_json(TokenRecord, answer)
    ]
    return print_table(("name", "role", "added", "used"), rows, empty="there is no token yet")


@command(app, "remove", f"relay token remove {_EXAMPLE}")
def remove(context: Context, name: Name) -> None:
    """Remove a token, which lets nobody in from now on."""
    context.obj.run("token.remove", name=name)
    print(f"token {name} removed")
