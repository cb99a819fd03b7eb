"""Administrators, tokens, and the audit: who may come in, and who changed what."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from relay.web.api.caller import Asking, Moment, as_text
from relay.web.api.entries import Name
from relay.web.api.models import NAME_PATTERN, Password
from relay.web.api.problems import responses

Role = Literal["administrator", "viewer"]
Text = Annotated[str, Query(max_length=200)]


class Administrator(BaseModel):
    """Somebody who may sign in to the pages."""

    name: str
    role: Role
    created: str
    password_set: bool


class Invited(Administrator):
    """Somebody who was added; without a password there is a one-time link to set it by."""

    url: str | None
    expires: str | None


class NewAdministrator(BaseModel):
    """Somebody to add."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=NAME_PATTERN)
    role: Role = "administrator"
    password: str | None = Field(None, description="Left out: a one-time link to set it by is returned.")


class RoleChange(BaseModel):
    """Another role."""

    model_config = ConfigDict(extra="forbid")

    role: Role


class Token(BaseModel):
    """A token of the API, without its value."""

    name: str
    role: Role
    created: str
    used: str | None


class NewToken(BaseModel):
    """A token to add."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    role: Role = "viewer"


class AddedToken(Token):
    """A new token with its value, which is shown this once."""

    token: str


class AuditChange(BaseModel):
    """One key that was changed; of a secret only that it was."""

    key: str
    old: Any = None
    new: Any = None


class AuditEntry(BaseModel):
    """Who did what."""

    id: int
    at: str
    who: str
    role: str
    way: Literal["page", "api", "command", "file"]
    peer: str
    operation: str
    what: str
    changes: list[AuditChange]


class AuditPage(BaseModel):
    """A part of the audit, the newest first."""

    items: list[AuditEntry]
    next: int | None = Field(description="`before` of the next page; null at the end.")


def router() -> APIRouter:
    """Return the routes of people."""
    routes = APIRouter()
    _add_administrators(routes)
    _add_tokens(routes)

    @routes.get("/audit", response_model=AuditPage, responses=responses(409), tags=["audit"], operation_id="audit.list")
    async def audit(  # noqa: PLR0913, PLR0917 - what an audit can be asked
        caller: Asking,
        who: Text = "",
        what: Text = "",
        operation: Annotated[str, Query(max_length=50, description='"channel.set", or "channel" for all.')] = "",
        since: Moment = None,
        until: Moment = None,
        contains: Text = "",
        before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Any:
        """Search who changed what and when."""
        return await caller.run(
            "audit.list",
            who=who,
            what=what,
            operation=operation,
            since=as_text(since),
            until=as_text(until),
            contains=contains,
            before=before,
            limit=limit,
        )

    return routes


def _add_administrators(routes: APIRouter) -> None:
    @routes.get(
        "/administrators",
        response_model=list[Administrator],
        responses=responses(),
        tags=["administrators"],
        operation_id="admin.list",
    )
    async def list_people(caller: Asking) -> Any:
        """List who may sign in to the pages."""
        return await caller.run("admin.list")

    @routes.post(
        "/administrators",
        status_code=201,
        response_model=Invited,
        responses=responses(409),
        tags=["administrators"],
        operation_id="admin.add",
    )
    async def add(caller: Asking, body: NewAdministrator) -> Any:
        """Add an administrator or viewer."""
        return await caller.run("admin.add", name=body.name, role=body.role, password=body.password)

    @routes.patch(
        "/administrators/{name}",
        response_model=Administrator,
        responses=responses(404, 409),
        tags=["administrators"],
        operation_id="admin.set",
    )
    async def change(caller: Asking, name: Name, body: RoleChange) -> Any:
        """Change a role. Whoever it is has to sign in anew."""
        return await caller.run("admin.set", name=name, role=body.role)

    @routes.put(
        "/administrators/{name}/password",
        status_code=204,
        responses=responses(404, 409),
        tags=["administrators"],
        operation_id="admin.password",
    )
    async def password(caller: Asking, name: Name, body: Password) -> None:
        """Set a password. Whoever it is has to sign in anew."""
        await caller.run("admin.password", name=name, password=body.password)

    @routes.delete(
        "/administrators/{name}",
        status_code=204,
        responses=responses(404, 409),
        tags=["administrators"],
        operation_id="admin.remove",
    )
    async def remove(caller: Asking, name: Name) -> None:
        """Remove somebody; never the last administrator."""
        await caller.run("admin.remove", name=name)


def _add_tokens(routes: APIRouter) -> None:
    @routes.get(
        "/tokens", response_model=list[Token], responses=responses(), tags=["tokens"], operation_id="token.list"
    )
    async def list_tokens(caller: Asking) -> Any:
        """List the tokens of the API."""
        return await caller.run("token.list")

    @routes.post(
        "/tokens",
        status_code=201,
        response_model=AddedToken,
        responses=responses(409),
        tags=["tokens"],
        operation_id="token.add",
    )
    async def add(caller: Asking, body: NewToken) -> Any:
        """Add a token; its value is shown this once."""
        return await caller.run("token.add", name=body.name, role=body.role)

    @routes.delete(
        "/tokens/{name}",
        status_code=204,
        responses=responses(404, 409),
        tags=["tokens"],
        operation_id="token.remove",
    )
    async def remove(caller: Asking, name: Name) -> None:
        """Remove a token: it opens nothing from then on."""
        await caller.run("token.remove", name=name)
