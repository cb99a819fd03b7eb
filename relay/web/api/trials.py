"""Tests of servers and profiles, the default server, and who uses a server."""

from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Query
from pydantic import Field, StrictBool

from relay.web.api.bodies import Body, Given, ListRange, Page
from relay.web.api.endpoint import Asking, Subject, given_values
from relay.web.api.nouns import AGENTS, CHANNELS, SERVERS, Noun

_TO = "ann@customer.example"


class ServerTrial(Given):
    """How to test a server."""

    to: str = Field(max_length=320, description="To whom the test message goes.", examples=[_TO])
    send: StrictBool = Field(True, description="False: stop before the message itself.", examples=[True])


class ProfileTrial(Given):
    """How to test a profile."""

    example: ClassVar = {"to": _TO, "send": True}

    to: str | None = Field(
        None, max_length=320, description="To whom the test message goes; left out, to the profile's own address."
    )
    send: StrictBool = Field(True, description="False: stop before the message itself.")
    round_trip: StrictBool = Field(False, description="Look for the message in the mailbox where it arrives.")


class UnsavedTrial(Given):
    """A server to test before it is saved. Its password may be that of a saved server with the same way in."""

    example: ClassVar = {"password": "correct horse battery staple", "send": False}

    values: SERVERS.changes = Field(description="Its keys.")  # type: ignore[name-defined]
    to: str = Field(max_length=320, description="To whom the test message goes.", examples=[_TO])
    password: str | None = None
    name: str | None = Field(None, description="The saved server whose password is meant.")
    send: StrictBool = Field(True, description="False: stop before the message itself.")


class UnsavedChannelTrial(Given):
    """A channel to test before it is saved. Its password may be that of the saved channel, for the same account."""

    example: ClassVar = {"to": _TO, "password": "correct horse battery staple", "send": False}

    values: CHANNELS.changes = Field(  # type: ignore[name-defined]
        description="Its keys; address, server, override and username count."
    )
    to: str | None = Field(
        None, max_length=320, description="To whom the test message goes; left out, to the address in the values."
    )
    password: str | None = None
    name: str | None = Field(None, description="The saved one whose password is meant.")
    send: StrictBool = Field(True, description="False: stop before the message itself.")


class UnsavedAgentTrial(UnsavedChannelTrial):
    """An agent to test before it is saved. Its password may be that of the saved agent, for the same account."""

    values: AGENTS.changes = Field(  # type: ignore[name-defined]
        description="Its keys; address, server, override and username count."
    )


class TrialStep(Body):
    """One step of a test, with the server's own words."""

    step: str = Field(
        description="resolve, connect, ehlo, starttls, login, mail, rcpt, message; send-as where nothing was sent; the "
        "steps of a round trip.",
        examples=["message"],
    )
    ok: bool = Field(examples=[True])
    detail: str = Field(examples=["sent: 250 2.0.0 OK 1795514355 gsmtp"])


class TrialResult(Body):
    """What came of a test. The first step that fails is the last."""

    ok: bool = Field(examples=[True])
    steps: list[TrialStep]


class Default(Body):
    """Who follows the default server, and who stays at the one before."""

    before: str | None = Field(description="The default server until now.", examples=["acmejets"])
    followers: list[str] = Field(examples=[["support"]])
    stay: list[str] = Field(
        description="Those with an account of their own: their passwords are for the server before, "
        "which is written into their entries.",
        examples=[["jane"]],
    )


class User(Body):
    """Who sends through a server."""

    name: str = Field(examples=["support"])
    kind: Literal["channel", "agent"] = Field(examples=["channel"])
    address: str = Field(examples=["support@acmejets.example"])
    override: bool = Field(description="Whether it logs in with its own account.", examples=[True])
    follows_default: bool = Field(
        description="Whether it chose no server, and follows the default one.", examples=[True]
    )


class Users(Page[User]):
    """A part of those who send through a server, in the order of their names."""

    channels: int = Field(description="How many channels they are in all.", examples=[1])
    agents: int = Field(description="How many agents they are in all.", examples=[0])


class UsersRange(ListRange):
    """Which users of a server."""

    following: bool = Field(False, description="Only those who follow the default.")


def add_routes(routes: APIRouter) -> None:
    """Add these routes."""
    _add_server_routes(Subject(routes, SERVERS.tag))
    for noun, unsaved in ((CHANNELS, UnsavedChannelTrial), (AGENTS, UnsavedAgentTrial)):
        subject = Subject(routes, noun.tag)
        _add_unsaved_route(subject, noun, unsaved)
        _add_profile_routes(subject, noun)


def _add_server_routes(subject: Subject) -> None:
    one = "/servers/{name}"

    @subject.request("POST /servers/try", "server.try", TrialResult, 404, 409)
    async def try_server(caller: Asking, body: UnsavedTrial) -> Any:
        """Test a server before it is saved, step by step. Nothing of it is kept."""
        params = {"values": given_values(body.values), "to": body.to, "send": body.send}
        return trial_result(await caller.all_of("server.try", password=body.password, name=body.name, **params))

    @subject.request(f"POST {one}/test", "server.test", TrialResult, 404, 409)
    async def test_server(caller: Asking, name: SERVERS.name, body: ServerTrial) -> Any:  # type: ignore[name-defined]
        """Test a server step by step."""
        return trial_result(await caller.all_of("server.test", name=name, to=body.to, send=body.send))

    @subject.request(f"POST {one}/default", "server.default", Default, 404, 409)
    async def default(caller: Asking, name: SERVERS.name) -> Any:  # type: ignore[name-defined]
        """Make a server the default. Who chooses none follows, but for those with an account of their own."""
        return await caller.run("server.default", name=name)

    @subject.request(f"GET {one}/users", "server.users", Users, 404)
    async def users(caller: Asking, name: SERVERS.name, wanted: Annotated[UsersRange, Query()]) -> Any:  # type: ignore[name-defined]
        """List who sends through a server."""
        return await caller.run("server.users", name=name, **wanted.model_dump())


def _add_unsaved_route(subject: Subject, noun: Noun, model: type[UnsavedChannelTrial]) -> None:
    @subject.request(
        f"POST {noun.path}/try",
        f"{noun.word}.try",
        TrialResult,
        404,
        409,
        summary=f"Test {noun.one} before it is saved, step by step",
    )
    async def try_profile(caller: Asking, body: model) -> Any:  # type: ignore[valid-type]
        asked = body.model_dump(include={"to", "password", "name", "send"})  # type: ignore[attr-defined]
        values = given_values(body.values)  # type: ignore[attr-defined]
        return trial_result(await caller.all_of(f"{noun.word}.try", values=values, **asked))


def _add_profile_routes(subject: Subject, noun: Noun) -> None:
    @subject.request(
        f"POST {noun.path}/{{name}}/test",
        f"{noun.word}.test",
        TrialResult,
        404,
        409,
        summary=f"Test {noun.one} step by step",
    )
    async def test_profile(caller: Asking, name: noun.name, body: ProfileTrial) -> Any:  # type: ignore[name-defined]
        steps = caller.all_of(f"{noun.word}.test", name=name, to=body.to, send=body.send, round_trip=body.round_trip)
        return trial_result(await steps)


def trial_result(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what came of a test, by its steps."""
    return {"ok": bool(steps) and all(step["ok"] for step in steps), "steps": steps}
