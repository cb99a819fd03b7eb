"""The door of the API: nothing of a request is read before it is known who asks.

SECURITY: else anybody could have us read and parse megabytes of JSON.
"""

from collections.abc import Container

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from relay.control.refused import Refused
from relay.web.api.problems import problem, refusal
from relay.web.bearer import bearer_of
from relay.web.site import Site

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="relay"'}
_NO_TOKEN = "this needs a token: Authorization: Bearer TOKEN (relay token add NAME)"  # noqa: S105 - a sentence


class Door:
    """An ASGI application around the API: `request.state.actor` is who asks. `is_open` are paths for strangers, too."""

    def __init__(self, app: ASGIApp, site: Site, is_open: Container[str]) -> None:
        self._app = app
        self._site = site
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask strangers for a token, or pass on."""
        request = Request(scope)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            request.state.actor = actor = await bearer_of(request, self._site)
        except Refused as error:  # the store cannot say
            await refusal(error)(scope, receive, send)
            return
        if actor is None and path not in self._is_open:
            await problem(401, _NO_TOKEN, (), _CHALLENGE)(scope, receive, send)
            return
        await self._app(scope, receive, send)
