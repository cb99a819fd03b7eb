"""How a request of the API is declared, and who asks it: the operations as this one may run them."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from inspect import getdoc
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from relay.control.actor import Actor
from relay.control.json_values import as_json
from relay.web.api.bodies import VERSION
from relay.web.api.problems import responses
from relay.web.kit.site import Site

Handler: TypeAlias = Callable[..., Any]

_SENTENCE_END = re.compile(r"\.(?=\s|$)")
_BEARER = HTTPBearer(
    auto_error=False,
    description="A token of `relay token add NAME`, in `Authorization: Bearer TOKEN`. The role that an operation names "
    "is the lowest that may do it: an administrator may do all that a viewer may.",
)
ETAG: Mapping[str, Any] = {
    "ETag": {
        "description": "The version of the entry, for `If-Match`.",
        "schema": {"type": "string"},
        "example": f'"{VERSION}"',
    }
}


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


class Caller:
    """One request's way to the operations."""

    def __init__(self, site: Site, actor: Actor) -> None:
        self._site = site
        self.actor = actor

    async def run(self, operation: str, /, **params: Any) -> Any:
        """Return the result of an operation as JSON has it. Raises Refused."""
        return as_json(await self._site.operations.run(operation, params, self.actor))

    async def find(self, operation: str, wanted: BaseModel, /) -> Any:
        """Return the result of an operation that is asked by the address of a request. Raises Refused."""
        return await self.run(operation, **wanted.model_dump(mode="json"))

    async def stream(self, operation: str, /, **params: Any) -> AsyncIterator[Any]:
        """Yield what an operation says while it goes on, as JSON has it. Raises Refused."""
        async for item in self._site.operations.stream(operation, params, self.actor):
            yield as_json(item)

    async def all_of(self, operation: str, /, **params: Any) -> list[Any]:
        """Return all that a stream says. Raises Refused."""
        return [item async for item in self.stream(operation, **params)]


async def _caller(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> Caller:
    return Caller(request.app.state.site, request.state.actor)


Asking: TypeAlias = Annotated[Caller, Depends(_caller)]


def _expected(
    if_match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description="The ETag of the version that the change was made from; 412 where another is in effect. "
            "Left out, or `*`: any will do.",
            examples=[f'"{VERSION}"'],
        ),
    ] = None,
) -> str | None:
    """Return the version in If-Match (RFC 9110 section 13.1.1); None where any will do."""
    if if_match is None or if_match.strip() == "*":
        return None
    return if_match.strip().removeprefix("W/").strip('"')


Expected: TypeAlias = Annotated[str | None, Depends(_expected)]


def etag(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the header that names a record's version."""
    return {"ETag": f'"{record["version"]}"'}


def given_values(body: BaseModel, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return what was given, and nothing else: a key that was left out stays as it is."""
    values: dict[str, Any] = body.model_dump(mode="json", exclude_unset=True, exclude=set(without))
    return values
