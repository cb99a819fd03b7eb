"""The door of the API: nothing of a request is read before it is known who asks.

SECURITY: else anybody could have us read and parse megabytes of JSON. Who may change nothing sends no body either, and
what is sent is counted before it is looked at (`relay.web.api.json_bounds`).
"""

from asyncio import to_thread
from collections.abc import Container

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay import log
from relay.control.actor import Role
from relay.control.refused import Refused
from relay.web.api.json_bounds import NotUtf8, TooMuch, check_amount
from relay.web.api.problems import KINDS, problem, refusal
from relay.web.kit.site import Site, bearer_of

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="relay"'}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
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
        if actor is None or scope["method"] in _SAFE:
            await self._app(scope, receive, send)
        elif actor.role is not Role.ADMINISTRATOR:
            log.refused(what=f"{scope['method']} {path}", who=actor.name, role=str(actor.role), way=str(actor.way))
            await problem(403, KINDS[403].detail)(scope, receive, send)
        else:
            await self._change(scope, receive, send)

    async def _change(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, and pass on what is not too much."""
        is_sent = False
        try:
            body = await Request(scope, receive).body()
            await to_thread(check_amount, body)
        except HTTPException as error:  # it is too large, or took too long
            await problem(error.status_code, error.detail)(scope, receive, send)
            return
        except TooMuch as error:
            await problem(413, str(error))(scope, receive, send)
            return
        except NotUtf8:
            await problem(400, KINDS[400].detail)(scope, receive, send)
            return

        async def receive_again() -> Message:
            nonlocal is_sent
            if is_sent:
                return await receive()
            is_sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_again, send)
