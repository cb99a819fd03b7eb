"""Who asks the API, and the operations as this one may run them."""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from relay.control.actor import Actor
from relay.control.json_values import as_json
from relay.web.api.bodies import VERSION
from relay.web.kit.site import Site

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
