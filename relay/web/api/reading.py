"""How the API reads the body of a request: as JSON, in a thread where it is long."""

import json
from asyncio import to_thread
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

_QUICK = 16 * 1024  # octets that are read at once


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
