"""The pages and the API as one ASGI application."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from relay import log
from relay.config.endpoint import TcpAddress
from relay.config.types import Network
from relay.control.refused import Refused
from relay.web import health, invitation_page, sign_in
from relay.web.api.app import PREFIX, make_api
from relay.web.api.problems import problem
from relay.web.kit import events
from relay.web.kit.guard import Guard, hosts_of, plain_refusal
from relay.web.kit.page_request import PageRequest, session_of
from relay.web.kit.site import STATIC, Site
from relay.web.kit.words import not_now
from relay.web.pages import (
    administrators,
    agents,
    applications,
    audit,
    channels,
    imports,
    messages,
    notifications,
    overview,
    profile,
    queue,
    scripts,
    servers,
)

_Answer = Callable[[Request, Exception], Awaitable[Response]]


def make_app(site: Site, address: TcpAddress, proxies: Sequence[Network] = ()) -> ASGIApp:
    """Return the application for an address that it is served at.

    SECURITY: bad logins are counted by the address of who asks. Of one of the `proxies` its X-Forwarded-For says who
    that is, read from its end to the first that is none of them; of anybody else it says nothing.
    """
    routes: list[BaseRoute] = [
        *health.routes(site),
        *sign_in.routes(site),
        *invitation_page.routes(site),
        *events.routes(site),
        *imports.routes(site),  # before the nouns whose tables it takes
        *administrators.routes(site),
        *agents.routes(site),
        *applications.routes(site),
        *audit.routes(site),
        *channels.routes(site),
        *messages.routes(site),
        *notifications.routes(site),
        *overview.routes(site),
        *profile.routes(site),
        *queue.routes(site),
        *scripts.routes(site),
        *servers.routes(site),
        *administrators.token_routes(site),
        Mount(PREFIX, make_api(site)),
        Mount("/static", _Static(directory=STATIC), name="static"),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _told(site),
            Refused: _unavailable,
            Exception: _broken,
        },
    )
    guard = Guard(app, lambda: hosts_of(site.public_url, address), _refusal)
    if not proxies:
        return guard
    return cast("ASGIApp", ProxyHeadersMiddleware(cast("Any", guard), [str(network) for network in proxies]))


def _refusal(path: str, status: int, sentence: str) -> Response:
    """Return what is said to a request that goes no further, to programs as problems."""
    return problem(status, sentence) if _is_for_programs(path) else plain_refusal(path, status, sentence)


def _is_for_programs(path: str) -> bool:
    return path.startswith(f"{PREFIX}/")


class _Static(StaticFiles):
    """Static files; their addresses change with their content, so a browser may keep them.

    Each is sent whole: what a Range asks for is not looked at (RFC 9110 section 14.2), for its list may be long.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as usual."""
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)

    def file_response(self, *args: object, **keywords: object) -> Response:
        """Return the file as usual, to be kept for a year."""
        response = super().file_response(*args, **keywords)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def _told(site: Site) -> _Answer:
    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if _is_for_programs(request.url.path):  # a path that no mount takes, such as one with a line end in it
            return problem(error.status_code, "there is nothing at this address; see openapi.json")
        sentence = {404: "there is no such page", 405: "this page takes no such request"}.get(
            error.status_code, error.detail
        )
        try:
            session = await session_of(request, site)
        except Refused as refused:
            return await _unavailable(request, refused)
        visit = PageRequest(request, site, session)
        return visit.say_no(error.status_code, sentence)

    return answer


async def _unavailable(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Tell that nobody can be let in: what is refused to somebody who is in, the page itself tells."""
    assert isinstance(error, Refused)
    return PlainTextResponse(f"{not_now(error)}\n", status_code=503)


async def _broken(request: Request, error: Exception) -> Response:
    """Say little to the browser; Starlette raises the error again, and the server logs it."""
    log.broken("a page failed; please report it", path=request.url.path, error=type(error).__name__)
    return PlainTextResponse("something is wrong on our side; relay's log says what\n", status_code=500)
