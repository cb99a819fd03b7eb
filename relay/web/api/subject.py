"""How a request of the API is declared: what FastAPI is told of one is said here, of all in the same way."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import getdoc
from typing import Any, TypeAlias

from fastapi import APIRouter, Response

from relay.web.api.problems import responses

Handler: TypeAlias = Callable[..., Any]

_SENTENCE_END = re.compile(r"\.(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Media:
    """An answer that is no JSON: its media type, and an example."""

    type: str
    example: str


class Subject:
    """What the requests about one thing have in common. `tag` is the heading that they stand under."""

    def __init__(self, routes: APIRouter, tag: str) -> None:
        self._routes = routes
        self._tag = tag

    def request(
        self,
        line: str,
        operation: str,
        answer: Any = None,
        *refusals: int,
        status: int | None = None,
        summary: str = "",
        description: str | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Let a function answer "METHOD PATH". It runs `operation`, after which the request is named.

        `answer` is the type of the body, or a Media; without one the answer is 204. `refusals` are the statuses beside
        those that every request can meet. `summary` is the first sentence of the function's docstring where it is left
        out. `headers` are those of the answer, as the description has them.
        """
        method, path = line.split()
        code = status or (204 if answer is None else 200)
        success: dict[str, Any] = {"headers": dict(headers)} if headers else {}
        more: dict[str, Any] = {"response_model": answer}
        if isinstance(answer, Media):
            success["content"] = {answer.type: {"schema": {"type": "string"}, "example": answer.example}}
            more = {"response_model": None, "response_class": Response}

        def declare(handler: Handler) -> Handler:
            self._routes.add_api_route(
                path,
                handler,
                methods=[method],
                status_code=code,
                responses={code: success, **responses(*refusals)},
                tags=[self._tag],
                summary=summary or _SENTENCE_END.split(getdoc(handler) or "", maxsplit=1)[0],
                description=description,
                response_description="Done.",
                operation_id=operation,
                **more,
            )
            return handler

        return declare
