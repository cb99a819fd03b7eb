"""/events: server-sent events, by which an open page hears that something changed (relay.js reads it again then)."""

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from relay.control.refused import Refused
from relay.web.kit.change_watcher import ChangeWatcher
from relay.web.kit.page_request import STAFF, cookie_of, session_of
from relay.web.kit.site import Site

_CHANGED = b"event: changed\ndata:\n\n"
_STILL_HERE = b": still here\n\n"


def routes(site: Site) -> list[Route]:
    """Return the route of the stream."""

    async def events(request: Request) -> Response:
        session = await session_of(request, site)
        if session is None:
            return PlainTextResponse("sign in first\n", status_code=401)
        if session.actor.role not in STAFF:  # no page of theirs listens
            return PlainTextResponse(f"this page is not for the role {session.actor.role}\n", status_code=403)
        return _Stream(request, site)

    return [Route("/events", events)]


class _Stream(StreamingResponse):
    """A stream that counts among those that are open, from its first byte until its client is gone."""

    def __init__(self, request: Request, site: Site) -> None:
        super().__init__(_lines(request, site), media_type="text/event-stream")
        self._change_watcher: ChangeWatcher = site.change_watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream, unless too many do already."""
        if self._change_watcher.is_full:
            too_many = PlainTextResponse("too many pages listen; load this one anew to see more\n", status_code=503)
            await too_many(scope, receive, send)
            return
        async with self._change_watcher.listening():
            await super().__call__(scope, receive, send)


async def _lines(request: Request, site: Site) -> AsyncIterator[bytes]:
    """Yield the lines of one stream, which ends with its session."""
    yield _STILL_HERE
    async for is_change in site.change_watcher.changes():
        if not await _is_signed_in(request, site):
            return
        yield _CHANGED if is_change else _STILL_HERE


async def _is_signed_in(request: Request, site: Site) -> bool:
    """Whether the stream's session lasts; that a page listens is no use of it."""
    try:
        return await site.admission.session(cookie_of(request, site.cookie_name) or "", is_use=False) is not None
    except Refused:  # the store cannot say now; the browser asks again by itself
        return False
