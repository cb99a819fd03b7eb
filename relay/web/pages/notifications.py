"""The page of alerts and webhooks: who is told of what, how they answer, a test of each, and what is told again.

Both are set in relay.toml, so nothing is added or removed here.
"""

from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from starlette.responses import Response
from starlette.routing import Route

from relay.control.refused import Refused
from relay.control.results import AlertRecord, Replayed, WebhookRecord
from relay.web.kit.page_request import PageRequest, page
from relay.web.kit.site import Site
from relay.web.kit.test_page import Back, Items, steps_of, told_test

PATH = "/alerts"
_BACK = Back(PATH, "Alerts and webhooks")
_SPANS = {"1": "the last hour", "24": "the last 24 hours", "72": "the last 3 days"}  # by hours


def routes(site: Site) -> list[Route]:
    """Return the routes of alerts and webhooks. They are named by their number in relay.toml."""
    return [
        page(PATH, site, get=_list),
        page(f"{PATH}/{{number}}/test", site, post=_test_alert),
        page(f"{PATH}/webhooks/replay", site, post=_replay),
        page(f"{PATH}/webhooks/{{number}}/test", site, post=_test_webhook),
    ]


async def _list(visit: PageRequest) -> Response:
    alerts: list[AlertRecord] = await visit.run("alert.list")
    webhooks: list[WebhookRecord] = await visit.run("webhook.list")
    return visit.render("alerts.html", alerts=alerts, webhooks=webhooks, spans=_SPANS)


async def _test_alert(visit: PageRequest) -> Response:
    number = _number(visit.path["number"])
    title = f"Test of alert {number}"
    return told_test(
        visit, title, _steps(visit, "alert.test", number), _BACK, good="They are told that this is a test."
    )


async def _test_webhook(visit: PageRequest) -> Response:
    number = _number(visit.path["number"])
    title = f"Test of webhook {number}"
    return told_test(visit, title, _steps(visit, "webhook.test", number), _BACK, good="It took the event.")


async def _steps(visit: PageRequest, operation: str, number: int) -> Items:
    """Yield the steps of a test. "mail" is the whole message here, and not the command."""
    async with aclosing(steps_of(visit, operation, {"number": number})) as steps:
        async for step in steps:
            yield replace(step, step="message") if step.step == "mail" else step


async def _replay(visit: PageRequest) -> Response:
    hours = visit.text("hours")
    if hours not in _SPANS:
        raise Refused("choose from when on the events are told again")
    since = datetime.now(UTC) - timedelta(hours=int(hours))
    chosen = {"number": _number(visit.text("number"))} if visit.text("number") else {}
    done: Replayed = await visit.run("webhook.replay", since=since.isoformat(), **chosen)
    events = "1 event is" if done.events == 1 else f"{done.events:,} events are"
    return visit.redirect(PATH, f"{events} told again")


def _number(text: str) -> int:
    """Return a number in relay.toml; 0, which none has, for what is no number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 5 else 0
