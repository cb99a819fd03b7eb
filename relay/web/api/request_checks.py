"""What is looked at before a request of the API is answered: who asks, then how much its body holds.

SECURITY: nothing of a request is read before it is known who asks; else anybody could have us read and parse megabytes
of JSON. Who may change nothing sends no body either. What is sent is counted, in a thread, before it is looked at: so
many keys in an object, so many items in a list. Whatever is unknown or wrong has a fault made of it, which takes a
hundred times as long as to read it.
"""

import json
from asyncio import to_thread
from collections.abc import Callable, Container, Coroutine, Mapping
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay import log
from relay.control.actor import Role
from relay.control.refused import Refused
from relay.web.api.problems import REFUSALS, problem, refusal
from relay.web.kit.site import Site, bearer_of

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="relay"'}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_TOKEN = "this needs a token: Authorization: Bearer TOKEN (relay token add NAME)"  # noqa: S105 - a sentence
MOST_KEYS = 200
MOST_ITEMS = 1000
_MOST_COMMAS = 20_000
_MOST_ESCAPES = 200_000
_QUICK = 16 * 1024  # octets that are read at once


class RequestChecks:
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
            await problem(403, REFUSALS[403].detail)(scope, receive, send)
        else:
            await self._change(scope, receive, send)

    async def _change(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, and pass on what is not too much."""
        is_sent = False
        try:
            body = await Request(scope, receive).body()
            await to_thread(_check_body, body)
        except HTTPException as error:  # it is too large, took too long, or is not UTF-8
            await problem(error.status_code, error.detail)(scope, receive, send)
            return

        async def receive_again() -> Message:
            nonlocal is_sent
            if is_sent:
                return await receive()
            is_sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_again, send)


def _check_body(body: bytes) -> None:
    """Raise HTTPException for a body with too many keys, items or escapes (413), or in another encoding (400).

    What is no JSON is left to who reads it. A table stands in one text, in which there may be as many commas as there
    is room. Python's reader takes UTF-16 and halves of surrogate pairs, too: the latter a hundred times as slowly. And
    while it reads, no other thread does anything.
    """
    if b"\0" in body[:4] or not _is_utf8(body):
        raise HTTPException(400, REFUSALS[400].detail)
    if body.count(b"\\") > _MOST_ESCAPES:
        raise HTTPException(413, f"a body has at most {_MOST_ESCAPES:,} backslashes")
    _check_commas(body)
    try:
        _check_items(json.loads(body, object_pairs_hook=_checked))
    except (ValueError, RecursionError):
        return


def _check_commas(body: bytes) -> None:
    """Look at the commas outside of strings."""
    commas, strings, start = 0, 0, 0
    while (quote := body.find(b'"', start)) >= 0:
        commas += body.count(b",", start, quote)
        strings += 1
        if commas > _MOST_COMMAS or strings > 2 * _MOST_COMMAS:
            break
        start = _end_of_string(body, quote + 1)
    else:
        commas += body.count(b",", start)
    if commas > _MOST_COMMAS or strings > 2 * _MOST_COMMAS:
        raise HTTPException(413, f"a body has at most {_MOST_COMMAS:,} commas outside of its texts")


def _end_of_string(body: bytes, start: int) -> int:
    """Return where a string is over that has begun before `start`."""
    while (quote := body.find(b'"', start)) >= 0:
        text = body[start:quote]
        if (len(text) - len(text.rstrip(b"\\"))) % 2 == 0:
            return quote + 1
        start = quote + 1
    return len(body)


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _checked(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    if len(pairs) > MOST_KEYS:
        raise HTTPException(413, f"an object in a body has at most {MOST_KEYS} keys")
    for _, value in pairs:
        _check_items(value)
    return {}  # its keys are counted


def _check_items(value: Any) -> None:
    if isinstance(value, list):
        if len(value) > MOST_ITEMS:
            raise HTTPException(413, f"a list in a body has at most {MOST_ITEMS:,} items")
        for item in value:
            _check_items(item)


class ApiRoute(APIRoute):
    """A route whose request reads its body so that the loop goes on meanwhile."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def answer_read(request: Request) -> Response:
            return await answer(_Request(request.scope, request.receive))

        return answer_read


class _Request(Request):
    async def json(self) -> Any:
        """Return the body. Raises json.JSONDecodeError."""
        body = await self.body()
        return json.loads(body) if len(body) <= _QUICK else await to_thread(json.loads, body)
