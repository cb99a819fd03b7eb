"""Administrators, tokens, and the audit: who may come in, and who changed what."""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from fastapi import APIRouter, Query
from pydantic import Field

from relay.web.api.bodies import NAME_PATTERN, Body, Given, Invitation, Password, Span, name_of
from relay.web.api.endpoint import Asking, Subject

Role: TypeAlias = Literal["administrator", "viewer"]
_Person = name_of("ann")
_TokenName = name_of("ticketing")
_CREATED = "2026-11-24T09:30:00Z"


class Administrator(Body):
    """Somebody who may sign in to the pages."""

    name: str = Field(examples=["ann"])
    role: Role = Field(examples=["administrator"])
    created: str = Field(examples=[_CREATED])
    password_set: bool = Field(description="Whether there is a password to sign in with.", examples=[True])


class Invited(Administrator):
    """Somebody who was added; without a password there is a one-time link to set it by."""

    example: ClassVar = {"password_set": False}

    url: str | None = Field(
        description="Good once, for 24 hours.",
        examples=["https://relay.acmejets.example/welcome/EpHMf0kf732LBBJF-V_TeCxGa57Hzjb3wa9-aBk4tak"],
    )
    expires: str | None = Field(examples=["2026-11-25T09:30:00Z"])


class NewAdministrator(Given):
    """Somebody to add."""

    example: ClassVar = {"name": "ann", "role": "administrator"}

    name: str = Field(pattern=NAME_PATTERN, description="What people type to sign in. No agent has it.")
    role: Role = "administrator"
    password: str | None = Field(None, description="Left out: a one-time link to set it by is returned.")


class RoleChange(Given):
    """Another role."""

    role: Role = Field(examples=["viewer"])


class Token(Body):
    """A token of the API, without its value."""

    name: str = Field(examples=["ticketing"])
    role: Role = Field(examples=["viewer"])
    created: str = Field(examples=[_CREATED])
    used: str | None = Field(
        description="When it was used last, to the minute; null: never.", examples=["2026-11-24T10:05:00Z"]
    )


class NewToken(Given):
    """A token to add."""

    name: str = Field(pattern=NAME_PATTERN, examples=["ticketing"])
    role: Role = Field("viewer", examples=["viewer"])


class AddedToken(Token):
    """A new token with its value, which is shown this once."""

    example: ClassVar = {"used": None}

    token: str = Field(examples=["relay_4u1Yw0Q2c9nJ7kP5sT8vXzB3dF6gH1jL0mN2pR4tV6w"])


class AuditChange(Body):
    """A key, what it was and what it is. Of a password it says only that it was set."""

    key: str = Field(examples=["agents.jane.group"])
    old: Any = Field(examples=["flights"])
    new: Any = Field(examples=["sales"])


class AuditEntry(Body):
    """What somebody changed."""

    id: int = Field(examples=[4711])
    at: str = Field(examples=["2026-11-24T10:05:00Z"])
    who: str = Field(description="A person, a token, or a user of the machine.", examples=["ticketing"])
    role: str = Field(examples=["administrator"])
    way: Literal["page", "api", "command", "file"] = Field(
        description="file: an editor wrote directory.toml.", examples=["api"]
    )
    peer: str = Field(description='From which address; "": on the machine itself.', examples=["192.0.2.17"])
    operation: str = Field(
        description="As the operations here are named, with others of pages and commands.", examples=["agent.set"]
    )
    what: str = Field(description="The entry, account or message.", examples=["jane"])
    changes: list[AuditChange]


class AuditPage(Body):
    """A part of the audit, the newest first."""

    items: list[AuditEntry]
    next: int | None = Field(
        description="Given back as `before` it brings the next part; null at the end.", examples=[4661]
    )


class AuditSearch(Span):
    """Which changes: those of which all of this is true."""

    who: str = Field("", max_length=200, description="Who changed it.", examples=["ann"])
    what: str = Field("", max_length=200, description="Which entry, account or message.", examples=["jane"])
    operation: str = Field(
        "", max_length=50, description='"channel.set", or "channel" for all.', examples=["channel.set"]
    )
    contains: str = Field("", max_length=200, description="A text in what was changed.", examples=["sales"])
    before: int | None = Field(None, ge=1, le=2**53, description="`next` of the part before.", examples=[4661])
    limit: int = Field(50, ge=1, le=500, description="How many at most.")


def add_routes(routes: APIRouter) -> None:
    """Add the routes of people."""
    _add_administrators(Subject(routes, "administrators"))
    _add_tokens(Subject(routes, "tokens"))

    @Subject(routes, "audit").request("GET /audit", "audit.list", AuditPage, 409)
    async def audit(caller: Asking, wanted: Annotated[AuditSearch, Query()]) -> Any:
        """Search who changed what and when. Entries are kept for 400 days."""
        return await caller.find("audit.list", wanted)


def _add_administrators(subject: Subject) -> None:
    one = "/administrators/{name}"

    @subject.request("GET /administrators", "admin.list", list[Administrator])
    async def list_people(caller: Asking) -> Any:
        """List who may sign in to the pages, but for agents."""
        return await caller.run("admin.list")

    @subject.request("POST /administrators", "admin.add", Invited, 409, status=201)
    async def add(caller: Asking, body: NewAdministrator) -> Any:
        """Add an administrator or viewer."""
        return await caller.run("admin.add", name=body.name, role=body.role, password=body.password)

    @subject.request(f"PATCH {one}", "admin.set", Administrator, 404, 409)
    async def change(caller: Asking, name: _Person, body: RoleChange) -> Any:  # type: ignore[valid-type]
        """Change a role. Whoever it is has to sign in anew. The last administrator stays one."""
        return await caller.run("admin.set", name=name, role=body.role)

    @subject.request(f"PUT {one}/password", "admin.password", None, 404, 409)
    async def password(caller: Asking, name: _Person, body: Password) -> None:  # type: ignore[valid-type]
        """Set the password to sign in with. Whoever it is has to sign in anew."""
        await caller.run("admin.password", name=name, password=body.password)

    @subject.request(f"POST {one}/invitation", "admin.invite", Invitation, 404, 409, status=201)
    async def invite(caller: Asking, name: _Person) -> Any:  # type: ignore[valid-type]
        """Make a one-time link by which somebody sets the own password to sign in with."""
        return await caller.run("admin.invite", name=name)

    @subject.request(f"DELETE {one}", "admin.remove", None, 404, 409)
    async def remove(caller: Asking, name: _Person) -> None:  # type: ignore[valid-type]
        """Remove somebody; never the last administrator."""
        await caller.run("admin.remove", name=name)


def _add_tokens(subject: Subject) -> None:
    @subject.request("GET /tokens", "token.list", list[Token])
    async def list_tokens(caller: Asking) -> Any:
        """List the tokens of the API."""
        return await caller.run("token.list")

    @subject.request("POST /tokens", "token.add", AddedToken, 409, status=201)
    async def add(caller: Asking, body: NewToken) -> Any:
        """Add a token. Its value is shown this once."""
        return await caller.run("token.add", name=body.name, role=body.role)

    @subject.request("DELETE /tokens/{name}", "token.remove", None, 404, 409)
    async def remove(caller: Asking, name: _TokenName) -> None:  # type: ignore[valid-type]
        """Remove a token: it opens nothing from then on."""
        await caller.run("token.remove", name=name)
