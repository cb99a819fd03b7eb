"""Tests of servers and profiles, tables of profiles, the default server, and who uses a server."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from relay.web.api.caller import Asking, given_values
from relay.web.api.entries import Limit, Name, Start
from relay.web.api.models import Page
from relay.web.api.nouns import AGENTS, CHANNELS, SERVERS
from relay.web.api.problems import responses

Following = Annotated[bool, Query(description="Only those who follow the default.")]
_ADDRESS = Field(max_length=320, examples=["you@example.net"])


class ServerTrial(BaseModel):
    """How to test a server. `send` false: stop before the message itself."""

    model_config = ConfigDict(extra="forbid")

    to: str = _ADDRESS
    send: StrictBool = True


class ProfileTrial(BaseModel):
    """How to test a profile. `to` left out: its own address. `round_trip`: look for it where it arrives."""

    model_config = ConfigDict(extra="forbid")

    to: str | None = Field(None, max_length=320)
    send: StrictBool = True
    round_trip: StrictBool = False


class UnsavedTrial(BaseModel):
    """A server to test before it is saved. Its password may be that of a saved server with the same way in."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    values: SERVERS.changes = Field(examples=[{"host": "smtp.gmail.com"}])  # type: ignore[name-defined]
    to: str = _ADDRESS
    password: str | None = None
    name: str | None = Field(None, description="The saved server whose password is meant.")
    send: StrictBool = True


class UnsavedChannelTrial(BaseModel):
    """A channel to test before it is saved: its address, server, override and user name count.

    The password may be that of the saved channel, where it would go to the same account. `to` left out: its address.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    values: CHANNELS.changes = Field(  # type: ignore[name-defined]
        examples=[{"address": "support@acmejets.example", "override": True}]
    )
    to: str | None = Field(None, max_length=320)
    password: str | None = None
    name: str | None = Field(None, description="The saved one whose password is meant.")
    send: StrictBool = True


class UnsavedAgentTrial(UnsavedChannelTrial):
    """The same of an agent."""

    values: AGENTS.changes = Field(  # type: ignore[name-defined]
        examples=[{"address": "jane@acmejets.example", "override": True}]
    )


class TrialStep(BaseModel):
    """One step of a test, with the server's own words."""

    step: str
    ok: bool
    detail: str


class TrialResult(BaseModel):
    """What came of a test."""

    ok: bool
    steps: list[TrialStep]


class Default(BaseModel):
    """Who follows the default server."""

    followers: list[str]


class User(BaseModel):
    """Who sends through a server."""

    name: str
    kind: str
    address: str
    override: bool
    follows_default: bool


class Users(Page[User]):
    """A part of those who send through a server, and how many channels and agents they are in all."""

    channels: int
    agents: int


class Sheet(BaseModel):
    """A table as CSV. Nothing changes until `confirm`; `expected` is the `version` of what was shown."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    text: str = Field(examples=["name,address,group\njane,jane@acmejets.example,sales\n"])
    confirm: StrictBool = False
    expected: str | None = None


class SheetFault(BaseModel):
    """What is wrong in a line."""

    line: int
    key: str
    message: str


class SheetChange(BaseModel):
    """What a table changes of one entry: old and new, by key."""

    name: str
    keys: dict[str, list[Any]]


class SheetResult(BaseModel):
    """What a table adds and changes, and whether that is done."""

    rows: int
    adds: list[str]
    changes: list[SheetChange]
    unchanged: int
    faults: list[SheetFault]
    version: str
    done: bool


def router() -> APIRouter:
    """Return these routes."""
    routes = APIRouter()
    _add_server_routes(routes)
    for noun, unsaved in (("channel", UnsavedChannelTrial), ("agent", UnsavedAgentTrial)):
        _add_unsaved_route(routes, noun, unsaved)
        _add_profile_routes(routes, noun)
        _add_sheet_routes(routes, noun)
    return routes


def _add_server_routes(routes: APIRouter) -> None:
    @routes.post(
        "/servers/try",
        response_model=TrialResult,
        responses=responses(404, 409),
        tags=["servers"],
        operation_id="server.try",
    )
    async def try_server(caller: Asking, body: UnsavedTrial) -> Any:
        """Test a server before it is saved, step by step."""
        params = {"values": given_values(body.values), "to": body.to, "send": body.send}
        return _result(await caller.all_of("server.try", password=body.password, name=body.name, **params))

    @routes.post(
        "/servers/{name}/test",
        response_model=TrialResult,
        responses=responses(404, 409),
        tags=["servers"],
        operation_id="server.test",
    )
    async def test_server(caller: Asking, name: Name, body: ServerTrial) -> Any:
        """Test a server step by step."""
        return _result(await caller.all_of("server.test", name=name, to=body.to, send=body.send))

    @routes.post(
        "/servers/{name}/default",
        response_model=Default,
        responses=responses(404, 409),
        tags=["servers"],
        operation_id="server.default",
    )
    async def default(caller: Asking, name: Name) -> Any:
        """Make a server the default; who chooses none follows."""
        return await caller.run("server.default", name=name)

    @routes.get(
        "/servers/{name}/users",
        response_model=Users,
        responses=responses(404),
        tags=["servers"],
        operation_id="server.users",
    )
    async def users(
        caller: Asking, name: Name, following: Following = False, start: Start = 0, limit: Limit = 50
    ) -> Any:
        """List who sends through a server."""
        return await caller.run("server.users", name=name, following=following, start=start, limit=limit)


def _add_unsaved_route(routes: APIRouter, noun: str, model: type[UnsavedChannelTrial]) -> None:
    @routes.post(
        f"/{noun}s/try",
        response_model=TrialResult,
        responses=responses(404, 409),
        tags=[f"{noun}s"],
        summary=f"Test a {noun} before it is saved, step by step",
        operation_id=f"{noun}.try",
    )
    async def try_profile(caller: Asking, body: model) -> Any:  # type: ignore[valid-type]
        asked = body.model_dump(include={"to", "password", "name", "send"})  # type: ignore[attr-defined]
        values = given_values(body.values)  # type: ignore[attr-defined]
        return _result(await caller.all_of(f"{noun}.try", values=values, **asked))


def _add_profile_routes(routes: APIRouter, noun: str) -> None:
    @routes.post(
        f"/{noun}s/{{name}}/test",
        response_model=TrialResult,
        responses=responses(404, 409),
        tags=[f"{noun}s"],
        summary=f"Test a {noun} step by step",
        operation_id=f"{noun}.test",
    )
    async def test_profile(caller: Asking, name: Name, body: ProfileTrial) -> Any:
        steps = caller.all_of(f"{noun}.test", name=name, to=body.to, send=body.send, round_trip=body.round_trip)
        return _result(await steps)


def _add_sheet_routes(routes: APIRouter, noun: str) -> None:
    @routes.get(
        f"/{noun}s.csv",
        response_class=Response,
        responses={**responses(), 200: {"content": {"text/csv": {}}}},
        tags=[f"{noun}s"],
        summary=f"Export all {noun}s as CSV",
        operation_id=f"{noun}.export",
    )
    async def export(caller: Asking) -> Response:
        sheet = await caller.run(f"{noun}.export")
        return Response(sheet["text"], media_type="text/csv")

    @routes.post(
        f"/{noun}s.csv",
        response_model=SheetResult,
        responses=responses(409, 412),
        tags=[f"{noun}s"],
        summary=f"Import {noun}s from CSV",
        operation_id=f"{noun}.import",
    )
    async def import_sheet(caller: Asking, body: Annotated[Sheet, Body()]) -> Any:
        return await caller.run(f"{noun}.import", text=body.text, confirm=body.confirm, expected=body.expected)


def _result(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"ok": bool(steps) and all(step["ok"] for step in steps), "steps": steps}
