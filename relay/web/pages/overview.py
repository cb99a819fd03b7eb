"""The first page: how the relay is at a glance, what to do about what is not well, and how to begin."""

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from relay.control.actor import Role
from relay.control.json_values import fields_of
from relay.control.messages.results import CountRecord
from relay.control.overview import OverviewRecord
from relay.control.results import AccountReleased
from relay.web.kit.charts import Bar, Chart, Series, bars_of, first_moment
from relay.web.kit.page_request import EVERYBODY, PageRequest, local_path, page
from relay.web.kit.site import Site

_ALL = (
    Series("delivered", "Delivered", "s1"),
    Series("failed", "Failed", "s2"),
    Series("waiting", "Waiting or held", "s3"),
    Series("other", "Removed or unknown", "s4"),
)


class _Span(NamedTuple):
    """A time that a chart shows: how many bars, how many steps of counting to each, how its time is written."""

    words: str
    bars: int
    step: Literal[3600, 86400]
    per_bar: int
    form: str


_SPANS = {
    "24h": _Span("24 hours", 24, 3600, 1, "%H:%M"),
    "7d": _Span("7 days", 28, 3600, 6, "%a %H:%M"),
    "30d": _Span("30 days", 30, 86400, 1, "%d %b"),
}


def routes(site: Site) -> list[Route]:
    """Return the routes of the first page and of letting accounts go."""
    return [page("/", site, get=_overview, roles=EVERYBODY), page("/accounts/release", site, post=_release)]


async def _overview(visit: PageRequest) -> Response:
    if visit.actor.role is Role.AGENT:
        return visit.redirect("/profile")
    overview: OverviewRecord = await visit.run("overview")
    chosen = visit.query.get("span", "")
    span = chosen if chosen in _SPANS else "24h"
    return visit.render(
        "overview.html",
        overview=overview,
        is_new=not overview.steps.are_done,
        chart=await _chart(visit, _SPANS[span]),
        span=span,
        spans={key: one.words for key, one in _SPANS.items()},
        links={"server": "/servers", "channel": "/channels", "agent": "/agents"},
    )


async def _chart(visit: PageRequest, span: _Span) -> Chart:
    width = timedelta(seconds=span.step * span.per_bar)
    since = first_moment(datetime.now(UTC), width, span.bars)
    records: list[CountRecord] = await visit.run("messages.counts", since=f"{since:%Y-%m-%dT%H:%M:%SZ}", step=span.step)
    counted = [{**fields_of(one), "waiting": one.queued + one.held} for one in records]
    bars: list[Bar] = bars_of(counted, _ALL, span.per_bar, span.form)
    # What never was in this time is not in the legend.
    used = [index for index in range(len(_ALL)) if index == 0 or any(bar.values[index] for bar in bars)]
    return Chart(
        id="messages-chart",
        title=f"Messages that came in the last {span.words}, by what became of them",
        series=[_ALL[index] for index in used],
        bars=[Bar(label=bar.label, values=[bar.values[index] for index in used]) for bar in bars],
    )


async def _release(visit: PageRequest) -> Response:
    done: AccountReleased = await visit.run("account.release", account=visit.text("account"))
    return visit.redirect(local_path(visit.text("back") or "/"), f"account {done.account} is released")
