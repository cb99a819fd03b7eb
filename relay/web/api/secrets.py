"""Passwords, authorizations and invitations: what is given here is never shown again."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from relay.web.api.caller import Asking
from relay.web.api.entries import Name
from relay.web.api.models import Password
from relay.web.api.problems import responses

# The addresses of passwords, and the operation that sets each.
_PASSWORDS = (
    ("servers", "password", "server.password", "Set the password of the server's account"),
    ("channels", "password", "channel.password", "Set the email password, with which it logs in at its server"),
    ("agents", "password", "agent.password", "Set the email password, with which the agent logs in at its server"),
    ("channels", "login", "channel.login", "Set the password with which the channel logs in at Relay"),
    ("agents", "login", "agent.login", "Set the password with which the agent logs in at Relay"),
    ("applications", "login", "application.password", "Set the password with which the application logs in at Relay"),
    ("servers", "incoming-password", "server.incoming", "Set the password of the server's mailbox"),
    ("channels", "incoming-password", "channel.incoming", "Set the password of the channel's mailbox"),
    ("agents", "incoming-password", "agent.incoming", "Set the password of the agent's mailbox"),
)


class Visit(BaseModel):
    """Where a person allows it; `state` and `verifier` come back with the address that the browser ends at."""

    url: str
    state: str | None = None
    verifier: str | None = None
    account: str | None = Field(None, description="The account that is authorized already: nobody had to allow it.")
    expires: str | None = None


class Redirected(BaseModel):
    """The address that the browser ended at."""

    redirect: str = Field(max_length=8192, examples=["http://127.0.0.1/?code=abc&state=xyz"])
    state: str = Field(max_length=200)
    verifier: str = Field(max_length=200)


class Authorized(BaseModel):
    """An account that may log in."""

    account: str
    expires: str | None
    warning: str


class Invitation(BaseModel):
    """A one-time link to the profile page."""

    url: str
    expires: str


def router() -> APIRouter:
    """Return the routes of secrets."""
    routes = APIRouter()
    for plural, last, operation, summary in _PASSWORDS:
        _add_password(routes, f"/{plural}/{{name}}/{last}", operation, summary, plural)

    @routes.put(
        "/servers/{name}/client-secret",
        status_code=204,
        responses=responses(404, 409),
        tags=["servers"],
        operation_id="server.client_secret",
    )
    async def client_secret(caller: Asking, name: Name, body: Password) -> None:
        """Set the secret of the server's OAuth client."""
        await caller.run("server.client_secret", name=name, secret=body.password)

    @routes.post(
        "/agents/{name}/invitation",
        status_code=201,
        response_model=Invitation,
        responses=responses(404, 409),
        tags=["agents"],
        operation_id="agent.invite",
    )
    async def invite(caller: Asking, name: Name) -> Any:
        """Make a one-time link by which an agent sets the own passwords."""
        return await caller.run("agent.invite", name=name)

    _add_authorization(routes, "server")
    _add_authorization(routes, "channel")
    _add_authorization(routes, "agent")
    return routes


def _add_password(routes: APIRouter, path: str, operation: str, summary: str, tag: str) -> None:
    @routes.put(
        path,
        status_code=204,
        responses=responses(404, 409),
        tags=[tag],
        summary=summary,
        operation_id=operation,
    )
    async def set_password(caller: Asking, name: Name, body: Password) -> None:
        await caller.run(operation, name=name, password=body.password)


def _add_authorization(routes: APIRouter, noun: str) -> None:
    @routes.post(
        f"/{noun}s/{{name}}/authorization",
        response_model=Visit,
        responses=responses(404, 409),
        tags=[f"{noun}s"],
        summary=f"Begin to authorize the account of a {noun} by OAuth",
        description="In the code flow, and for client credentials, which are tried at once. The device flow is for "
        f"`relay {noun} authorize`.",
        operation_id=f"{noun}.authorize",
    )
    async def authorize(caller: Asking, name: Name) -> Any:
        steps = caller.stream(f"{noun}.authorize", name=name)
        async for step in steps:
            return {"url": "", **step}
        return {"url": ""}

    @routes.post(
        f"/{noun}s/{{name}}/authorized",
        response_model=Authorized,
        responses=responses(404, 409),
        tags=[f"{noun}s"],
        summary=f"End to authorize the account of a {noun}",
        operation_id=f"{noun}.authorized",
    )
    async def authorized(caller: Asking, name: Name, body: Redirected) -> Any:
        return await caller.run(
            f"{noun}.authorized", name=name, redirect=body.redirect, state=body.state, verifier=body.verifier
        )
