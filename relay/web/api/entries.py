"""The entries of the directory: listed, shown, added, changed and removed, each noun in the same way."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from relay.web.api.bodies import NAME_PATTERN, AgentListing, Listing, ListRange, Page, ProfileListing, sorted_by
from relay.web.api.endpoint import ETAG, Asking, Expected, Subject, etag, given_values
from relay.web.api.nouns import AGENTS, APPLICATIONS, CHANNELS, NOUNS, SCRIPTS, SERVERS, Noun
from relay.web.api.problems import keys_of


def add_routes(routes: APIRouter) -> None:
    """Add the routes of all nouns."""
    listings = ((SERVERS, Listing), (CHANNELS, ProfileListing), (AGENTS, AgentListing))
    for noun, listing in listings:
        _add_list(Subject(routes, noun.tag), noun, listing)
    for noun in (APPLICATIONS, SCRIPTS):
        _add_short_list(Subject(routes, noun.tag), noun)
    for noun in NOUNS:
        subject = Subject(routes, noun.tag)
        _add_entry(subject, noun)
        if noun is SERVERS:
            _add_server_removal(subject)
        else:
            _add_removal(subject, noun)


def _add_list(subject: Subject, noun: Noun, listing: type[Listing]) -> None:
    some = sorted_by(listing, noun.record)
    page = Page[noun.record]  # type: ignore[name-defined]

    @subject.request(f"GET {noun.path}", f"{noun.word}.page", page, summary=f"List the {noun.tag}")
    async def list_some(caller: Asking, wanted: Annotated[some, Query()]) -> Any:  # type: ignore[valid-type]
        return await caller.find(f"{noun.word}.page", wanted)


def _add_short_list(subject: Subject, noun: Noun) -> None:
    page = Page[noun.record]  # type: ignore[name-defined]

    @subject.request(f"GET {noun.path}", f"{noun.word}.list", page, summary=f"List the {noun.tag}")
    async def list_all(caller: Asking, wanted: Annotated[ListRange, Query()]) -> Any:
        records, start = await caller.run(f"{noun.word}.list"), wanted.start
        return {"items": records[start : start + wanted.limit], "total": len(records), "start": start}


def _add_entry(subject: Subject, noun: Noun) -> None:
    async def shown(caller: Asking, name: str, response: Response) -> Any:
        record = await caller.run(f"{noun.word}.show", name=name)
        response.headers.update(etag(record))
        return record

    @subject.request(
        f"POST {noun.path}",
        f"{noun.word}.add",
        noun.record,
        409,
        status=201,
        summary=f"Add {noun.one}",
        description="What is left out has its default.",
        headers=ETAG,
    )
    async def add(caller: Asking, body: noun.new, response: Response) -> Any:  # type: ignore[name-defined]
        values = given_values(body, without=frozenset({"name"}))
        with keys_of(f"{noun.tag}.{body.name}."):
            await caller.run(f"{noun.word}.add", name=body.name, values=values)
        return await shown(caller, body.name, response)

    @subject.request(
        f"GET {noun.path}/{{name}}",
        f"{noun.word}.show",
        noun.record,
        404,
        summary=f"Show {noun.one}",
        headers=ETAG,
    )
    async def show(caller: Asking, name: noun.name, response: Response) -> Any:  # type: ignore[name-defined]
        return await shown(caller, name, response)

    @subject.request(
        f"PATCH {noun.path}/{{name}}",
        f"{noun.word}.set",
        noun.record,
        404,
        409,
        412,
        summary=f"Change {noun.one}",
        description="What is left out stays as it is; null restores a default. Lists and tables are replaced whole.",
        headers=ETAG,
    )
    async def change(
        caller: Asking,
        name: noun.name,  # type: ignore[name-defined]
        body: noun.changes,  # type: ignore[name-defined]
        expected: Expected,
        response: Response,
    ) -> Any:
        with keys_of(f"{noun.tag}.{name}."):
            await caller.run(f"{noun.word}.set", name=name, values=given_values(body), expected=expected)
        return await shown(caller, name, response)


def _add_removal(subject: Subject, noun: Noun) -> None:
    @subject.request(
        f"DELETE {noun.path}/{{name}}",
        f"{noun.word}.remove",
        None,
        404,
        409,
        412,
        summary=f"Remove {noun.one}",
        description="Its passwords go with it. What others name (a profile that a login may send as, a script) stays "
        "until that is taken out.",
    )
    async def remove(caller: Asking, name: noun.name, expected: Expected) -> None:  # type: ignore[name-defined]
        await caller.run(f"{noun.word}.remove", name=name, expected=expected)


def _add_server_removal(subject: Subject) -> None:
    @subject.request(f"DELETE {SERVERS.path}/{{name}}", "server.remove", None, 404, 409, 412)
    async def remove(
        caller: Asking,
        name: SERVERS.name,  # type: ignore[name-defined]
        expected: Expected,
        move_to: Annotated[
            str | None, Query(pattern=NAME_PATTERN, description="Where its profiles go.", examples=["fallback"])
        ] = None,
    ) -> None:
        """Remove a server. The default server stays. One that is used needs `move_to`."""
        await caller.run("server.remove", name=name, move_to=move_to, expected=expected)
