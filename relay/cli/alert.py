"""`relay alert`: who is told when something needs a person (docs/alerts.md)."""

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from typer import Argument, Context, Exit

from relay.cli.output import moment, print_json, relative, words
from relay.cli.shared import AsJson, command, noun, show_test
from relay.control.json_values import list_from_json
from relay.control.results import AlertRecord

app = noun("Alerts: who is told when something needs a person.", "relay alert list")

_Number: TypeAlias = Annotated[int, Argument(metavar="NUMBER", help="Its number in relay.toml, from 1.")]
_MOST_SHOWN = 20


@command(app, "list", "relay alert list --json")
def list_(context: Context, as_json: AsJson = False) -> None:
    """List who is told, and of what they were told."""
    answer = context.obj.run("alert.list")
    if as_json:
        return print_json(answer)
    now, records = datetime.now(UTC), list_from_json(AlertRecord, answer)
    if not records:
        return print("relay.toml names nobody who is told; write one: [[alert]]")
    for one in records:
        print(f"{one.number}  {words(one.to)}  on {words(one.on)}")
        for trouble in one.troubles[:_MOST_SHOWN]:
            print(f"     {words(trouble.title)} (told {relative(moment(trouble.told), now)})")
        if len(one.troubles) > _MOST_SHOWN:
            print(f"     and {len(one.troubles) - _MOST_SHOWN} more")
    return None


@command(app, "test", "relay alert test 1")
def try_(context: Context, number: _Number, as_json: AsJson = False) -> None:
    """Tell somebody that this is a test.

    A mail goes into the queue. Exit code 1 where it cannot, or a webhook does not take it.
    """
    if not show_test(context.obj, "alert.test", as_json=as_json, number=number):
        raise Exit(1)
