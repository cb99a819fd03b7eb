"""The pages of the history: what became of every message, and the whole journey of one."""

from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from relay.control.messages.results import (
    HistoryItem,
    JourneyRecipient,
    JourneyRecord,
    MessageChunk,
    Page,
    changed_headers,
)
from relay.control.refused import Refused
from relay.delivery.outcome import State
from relay.web.kit.lists import SPANS, Search
from relay.web.kit.page_request import ADMINISTRATORS, PageRequest, page
from relay.web.kit.site import Site
from relay.web.kit.timeline import steps_of

PATH = "/messages"
_KEYS = ("sender", "to", "subject", "message_id", "state", "profile")
# Of more recipients those are folded who have the message; they would stand between a person and the journey.
_FEW, _MOST_OPEN = 12, 50
# What the states let people do; the operations decide.
ACTIONS: Mapping[str, tuple[str, ...]] = {
    State.QUEUED: ("retry", "hold", "remove"),
    State.UNKNOWN: ("retry", "hold", "remove"),
    State.HELD: ("release", "remove"),
}


def routes(site: Site) -> list[Route]:
    """Return the routes of messages."""
    return [
        page(PATH, site, get=_list),
        page(f"{PATH}/{{id}}", site, get=_show),
        page(f"{PATH}/{{id}}/content", site, get=_download, roles=ADMINISTRATORS),
    ]


async def _list(visit: PageRequest) -> Response:
    asking = Search.of(PATH, visit.query, _KEYS)
    asked: dict[str, str] = {key: asking[key] for key in _KEYS if asking[key]}
    found: Page[HistoryItem] = Page((), None)
    fault = ""
    try:
        found = await visit.run(
            "messages.page", contains=asking["q"], **asked, **asking.times(), after=asking.at or None
        )
    except Refused as error:
        fault = str(error)
    return visit.render(
        "messages/list.html",
        status=422 if fault else 200,
        asking=asking,
        states=[str(state) for state in State],
        spans=SPANS,
        found=found,
        fault=fault,
        is_folded=not asking.has_any((*_KEYS, "time", "from", "until")),
    )


async def _show(visit: PageRequest) -> Response:
    record = await _record(visit)
    if isinstance(record, Response):
        return record
    is_open = not State(record.state).is_final
    changed = changed_headers(record.attempts)
    route: Any = None
    no_route = ""
    try:
        route = await (_preview(visit, record) if is_open else _again(visit, record))
    except Refused as error:
        no_route = str(error)
    if is_open and route is not None:  # what the next attempt changes stands there already
        changed = [one for one in changed if one.changes != route.changes]
    return visit.render(
        "messages/show.html",
        record=record,
        steps=steps_of(record),
        recipients=parted(record.recipients),
        actions=ACTIONS.get(record.state, ()),
        is_open=is_open,
        has_content=is_open,
        about=_about(record),
        changed=changed,
        route=route,
        no_route=no_route,
    )


class Parted(NamedTuple):
    """Recipients as a page shows them: these at once, and the others where somebody unfolds them."""

    shown: Sequence[JourneyRecipient]
    folded: Sequence[JourneyRecipient]


def parted(recipients: Sequence[JourneyRecipient]) -> Parted:
    """Return all recipients where they are few; of many, at once those alone who have not got the message."""
    if len(recipients) <= _FEW:
        return Parted(recipients, ())
    open_ = [one for one in recipients if one.state != State.DELIVERED or one.returned][:_MOST_OPEN]
    shown = open_ or recipients[:_FEW]
    known = {id(one) for one in shown}
    return Parted(shown, [one for one in recipients if id(one) not in known])


async def _record(visit: PageRequest) -> JourneyRecord | Response:
    """Return a message, or the page that says that there is none."""
    try:
        record: JourneyRecord = await visit.run("messages.show", id=visit.path["id"])
    except Refused as error:
        return visit.refuse(error, status=404)
    return record


async def _preview(visit: PageRequest, record: JourneyRecord) -> Any:
    """Return what the next attempt would do to a message that waits. Raises Refused."""
    return await visit.run("queue.preview", id=record.id)


async def _again(visit: PageRequest, record: JourneyRecord) -> Any:
    """Return by which route mail of the sender of a message that is over would leave now: its content is not kept.

    None without a sender. Raises Refused.
    """
    return await visit.run("route", sender=record.sender) if record.sender else None


async def _download(visit: PageRequest) -> Response:
    record = await _record(visit)
    if isinstance(record, Response):
        return record
    items = visit.stream("queue.export", id=record.id)
    first = await anext(items, None)
    if first is None:
        raise Refused(f"the content of message {record.id} is no longer there")
    return StreamingResponse(
        _octets(first, items),
        media_type="message/rfc822",
        headers={"Content-Disposition": f'attachment; filename="{record.id}.eml"'},
    )


async def _octets(first: MessageChunk, items: AsyncGenerator[MessageChunk]) -> AsyncIterator[bytes]:
    async with aclosing(items):
        yield b64decode(first.chunk)
        async for item in items:
            yield b64decode(item.chunk)


def _about(record: JourneyRecord) -> str:
    """Return the id of the message that a report of ours is about; "" for any other message."""
    return record.subject.partition("report about ")[2].partition(":")[0] if record.is_report else ""
