"""Who asks the API, and the operations as this one may run them."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AwareDatetime, BaseModel, BeforeValidator

from relay.control.actor import Actor
from relay.web.site import Site

_BEARER = HTTPBearer(auto_error=False, description="A token of `relay token add NAME`.")


class Caller:
    """One request's way to the operations."""

    def __init__(self, site: Site, actor: Actor) -> None:
        self._site = site
        self.actor = actor

    async def run(self, operation: str, /, **params: Any) -> Any:
        """Return the result of an operation. Raises Refused."""
        return await self._site.operations.run(operation, params, self.actor)

    def stream(self, operation: str, /, **params: Any) -> AsyncIterator[dict[str, Any]]:
        """Yield what an operation says while it goes on. Raises Refused."""
        return self._site.operations.stream(operation, params, self.actor)

    async def all_of(self, operation: str, /, **params: Any) -> list[dict[str, Any]]:
        """Return all that a stream says. Raises Refused."""
        return [item async for item in self.stream(operation, **params)]


async def _caller(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> Caller:
    return Caller(request.app.state.site, request.state.actor)


Asking: TypeAlias = Annotated[Caller, Depends(_caller)]


def _expected(
    if_match: Annotated[
        str | None,
        Header(description="The ETag of the version that the change was made from; 412 where another is in effect."),
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


def _no_number(given: object) -> object:
    """Refuse seconds since 1970, which pydantic would take for a time."""
    if isinstance(given, str) and "T" not in given.upper():
        raise ValueError("a time is written as 2026-11-24T10:05:00Z")
    return given


Moment: TypeAlias = Annotated[
    Annotated[AwareDatetime, BeforeValidator(_no_number)] | None, Query(examples=["2026-11-24T10:05:00Z"])
]


def as_text(moment: datetime | None) -> str | None:
    """Return a time that was asked for as the operations take it."""
    return None if moment is None else moment.isoformat()
