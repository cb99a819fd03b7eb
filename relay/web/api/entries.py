"""The entries of the directory: listed, shown, added, changed and removed, each noun in the same way."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response

from relay.web.api.caller import Asking, Expected, etag, given_values
from relay.web.api.models import NAME_PATTERN, Page
from relay.web.api.nouns import AGENTS, APPLICATIONS, CHANNELS, SCRIPTS, SERVERS, Noun
from relay.web.api.problems import responses

Name = Annotated[str, Path(pattern=NAME_PATTERN, examples=["support"])]
Start = Annotated[int, Query(ge=0, le=2**31, description="The number of the first one wanted, from 0.")]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Contains = Annotated[str, Query(max_length=200, description="A text that one of their values has, without case.")]
Filter = Annotated[str | None, Query(max_length=200)]


def router() -> APIRouter:
    """Return the routes of all nouns."""
    routes = APIRouter()
    _add_server_list(routes)
    _add_profile_list(routes, CHANNELS)
    _add_agent_list(routes)
    _add_short_list(routes, APPLICATIONS)
    _add_short_list(routes, SCRIPTS)
    for noun in (CHANNELS, AGENTS, APPLICATIONS, SCRIPTS):
        _add_removal(routes, noun)
    _add_server_removal(routes)
    for noun in (SERVERS, CHANNELS, AGENTS, APPLICATIONS, SCRIPTS):
        _add_entry(routes, noun)
    return routes


def _add_entry(routes: APIRouter, noun: Noun) -> None:
    tags = [noun.path.strip("/")]

    @routes.post(
        noun.path,
        status_code=201,
        response_model=noun.record,
        responses=responses(409),
        tags=list(tags),
        summary=f"Add a {noun.word}",
        operation_id=f"{noun.word}.add",
    )
    async def add(caller: Asking, body: noun.new, response: Response) -> Any:  # type: ignore[name-defined]
        values = given_values(body, without=frozenset({"name"}))
        await caller.run(f"{noun.word}.add", name=body.name, values=values)
        record = await caller.run(f"{noun.word}.show", name=body.name)
        response.headers.update(etag(record))
        return record

    @routes.get(
        f"{noun.path}/{{name}}",
        response_model=noun.record,
        responses=responses(404),
        tags=list(tags),
        summary=f"Show a {noun.word}",
        operation_id=f"{noun.word}.show",
    )
    async def show(caller: Asking, name: Name, response: Response) -> Any:
        record = await caller.run(f"{noun.word}.show", name=name)
        response.headers.update(etag(record))
        return record

    @routes.patch(
        f"{noun.path}/{{name}}",
        response_model=noun.record,
        responses=responses(404, 409, 412),
        tags=list(tags),
        summary=f"Change a {noun.word}",
        description="What is left out stays as it is; null restores a default.",
        operation_id=f"{noun.word}.set",
    )
    async def change(
        caller: Asking,
        name: Name,
        body: noun.changes,  # type: ignore[name-defined]
        expected: Expected,
        response: Response,
    ) -> Any:
        await caller.run(f"{noun.word}.set", name=name, values=given_values(body), expected=expected)
        record = await caller.run(f"{noun.word}.show", name=name)
        response.headers.update(etag(record))
        return record


def _add_removal(routes: APIRouter, noun: Noun) -> None:
    @routes.delete(
        f"{noun.path}/{{name}}",
        status_code=204,
        responses=responses(404, 409, 412),
        tags=[noun.path.strip("/")],
        summary=f"Remove a {noun.word}",
        operation_id=f"{noun.word}.remove",
    )
    async def remove(caller: Asking, name: Name, expected: Expected) -> None:
        await caller.run(f"{noun.word}.remove", name=name, expected=expected)


def _add_server_removal(routes: APIRouter) -> None:
    @routes.delete(
        "/servers/{name}",
        status_code=204,
        responses=responses(404, 409, 412),
        tags=["servers"],
        summary="Remove a server",
        description="The default server stays. One that is used needs `move_to`.",
        operation_id="server.remove",
    )
    async def remove(
        caller: Asking,
        name: Name,
        expected: Expected,
        move_to: Annotated[str | None, Query(pattern=NAME_PATTERN, description="Where its profiles go.")] = None,
    ) -> None:
        await caller.run("server.remove", name=name, move_to=move_to, expected=expected)


def _add_server_list(routes: APIRouter) -> None:
    sort_key = _keys_of(SERVERS)
    page = Page[SERVERS.record]  # type: ignore[name-defined]

    @routes.get("/servers", response_model=page, responses=responses(), tags=["servers"], operation_id="server.page")
    async def list_servers(
        caller: Asking,
        sort: sort_key = "name",  # type: ignore[valid-type]
        descending: bool = False,
        contains: Contains = "",
        start: Start = 0,
        limit: Limit = 50,
    ) -> Any:
        """List the servers."""
        return await caller.run(
            "server.page", sort=sort, descending=descending, contains=contains, start=start, limit=limit
        )


def _add_profile_list(routes: APIRouter, noun: Noun) -> None:
    sort_key = _keys_of(noun)
    page = Page[noun.record]  # type: ignore[name-defined]

    @routes.get(
        noun.path,
        response_model=page,
        responses=responses(),
        tags=[noun.path.strip("/")],
        summary=f"List the {noun.word}s",
        operation_id=f"{noun.word}.page",
    )
    async def list_profiles(
        caller: Asking,
        sort: sort_key = "name",  # type: ignore[valid-type]
        descending: bool = False,
        contains: Contains = "",
        start: Start = 0,
        limit: Limit = 50,
        server: Filter = None,
    ) -> Any:
        return await caller.run(
            f"{noun.word}.page",
            sort=sort,
            descending=descending,
            contains=contains,
            start=start,
            limit=limit,
            server=server,
        )


def _add_agent_list(routes: APIRouter) -> None:
    sort_key = _keys_of(AGENTS)
    page = Page[AGENTS.record]  # type: ignore[name-defined]

    @routes.get("/agents", response_model=page, responses=responses(), tags=["agents"], operation_id="agent.page")
    async def list_agents(  # noqa: PLR0913, PLR0917 - what a list can be asked
        caller: Asking,
        sort: sort_key = "name",  # type: ignore[valid-type]
        descending: bool = False,
        contains: Contains = "",
        start: Start = 0,
        limit: Limit = 50,
        server: Filter = None,
        group: Filter = None,
        role: Filter = None,
    ) -> Any:
        """List the agents."""
        return await caller.run(
            "agent.page",
            sort=sort,
            descending=descending,
            contains=contains,
            start=start,
            limit=limit,
            server=server,
            group=group,
            role=role,
        )


def _add_short_list(routes: APIRouter, noun: Noun) -> None:
    page = Page[noun.record]  # type: ignore[name-defined]

    @routes.get(
        noun.path,
        response_model=page,
        responses=responses(),
        tags=[noun.path.strip("/")],
        summary=f"List the {noun.word}s",
        operation_id=f"{noun.word}.list",
    )
    async def list_all(caller: Asking, start: Start = 0, limit: Limit = 50) -> Any:
        records = await caller.run(f"{noun.word}.list")
        return {"items": records[start : start + limit], "total": len(records), "start": start}


def _keys_of(noun: Noun) -> Any:
    """Return the type of what a list can be sorted by: a key of the records."""
    return Annotated[Literal[tuple(noun.record.model_fields)], Query(description="The key to sort by.")]
