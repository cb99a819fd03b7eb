"""`relay alert` and `relay webhook`: who is told when something needs a person, and what becomes of messages.

docs/alerts.md and docs/webhooks.md.
"""

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from typer import Argument, Context, Exit, Option

from relay.cli.messages import parse_since
from relay.cli.output import count, moment, print_json, print_table, relative, words
from relay.cli.shared import AsJson, command, noun, show_test
from relay.control.json_values import from_json, list_from_json
from relay.control.results import AlertRecord, Replayed, WebhookRecord

alert_app = noun("Alerts: who is told when something needs a person.", "relay alert list")

_Number: TypeAlias = Annotated[int, Argument(metavar="NUMBER", help="Its number in relay.toml, from 1.")]
_MOST_SHOWN = 20


@command(alert_app, "list", "relay alert list --json")
def list_alerts(context: Context, as_json: AsJson = False) -> None:
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


@command(alert_app, "test", "relay alert test 1")
def try_alert(context: Context, number: _Number, as_json: AsJson = False) -> None:
    """Tell somebody that this is a test.

    A mail goes into the queue. Exit code 1 where it cannot, or a webhook does not take it.
    """
    if not show_test(context.obj, "alert.test", as_json=as_json, number=number):
        raise Exit(1)


webhook_app = noun("Webhooks: programs that are told what becomes of messages.", "relay webhook list")


@command(webhook_app, "list", "relay webhook list --json")
def list_webhooks(context: Context, as_json: AsJson = False) -> None:
    """List the webhooks, how they answer, and what waits."""
    answer = context.obj.run("webhook.list")
    if as_json:
        return print_json(answer)
    now = datetime.now(UTC)
    rows = [_row(one, now) for one in list_from_json(WebhookRecord, answer)]
    empty = "relay.toml names no webhook"
    return print_table(("number", "url", "state", "waiting", "held", "last told", "reason"), rows, empty=empty)


@command(webhook_app, "test", "relay webhook test 1")
def try_webhook(context: Context, number: _Number, as_json: AsJson = False) -> None:
    """Post one signed event to try it.

    Its type is relay.test. Exit code 1 where it is not taken.
    """
    if not show_test(context.obj, "webhook.test", as_json=as_json, number=number):
        raise Exit(1)


@command(webhook_app, "replay", "relay webhook replay --since 2h")
def replay(
    context: Context,
    since: Annotated[
        str, Option("--since", metavar="T", help="How long ago, such as 2h, or a time.", show_default=False)
    ],
    number: Annotated[int | None, Option("--webhook", metavar="NUMBER", help="One webhook only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell again what happened since a time.

    That is what was told, for three days, and what is held.
    """
    moment_ = parse_since(since, datetime.now(UTC)).isoformat()
    answer = context.obj.run("webhook.replay", since=moment_, number=number)
    if as_json:
        return print_json(answer)
    return print(f"{count(from_json(Replayed, answer).events, 'event')} told again")


def _row(one: WebhookRecord, now: datetime) -> list[str]:
    waiting = str(one.waiting) if one.oldest is None else f"{one.waiting}, {relative(moment(one.oldest), now)}"
    told = relative(moment(one.delivered), now) if one.delivered else "never"
    return [str(one.number), words(one.url), one.state, waiting, str(one.held), told, words(one.reason)]
