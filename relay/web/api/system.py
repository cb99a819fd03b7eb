"""How the relay is, which way a sender takes, and what the providers are."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from relay.web.api.caller import Asking
from relay.web.api.models import NAME_PATTERN
from relay.web.api.problems import responses


class Told(BaseModel):
    """An object as the commands print it with --json."""

    model_config = ConfigDict(extra="allow")


class Status(Told):
    """How the relay is."""

    running: bool
    version: str | None
    since: str | None
    listeners: list[str]
    queue: dict[str, int]
    oldest: str | None


class Overview(Told):
    """How the relay is at a glance, and what to do about what is not well."""

    totals: dict[str, int]
    queue: dict[str, int]
    oldest: str | None


class Groups(BaseModel):
    """The groups and roles of agents."""

    groups: list[str]
    roles: list[str]


class Route(BaseModel):
    """By which server, account and identity mail of a sender leaves, and why."""

    profile: str | None
    server: str
    account: str
    identity: str
    override: bool
    model_config = ConfigDict(extra="allow")


class Finding(BaseModel):
    """One finding of the doctor."""

    model_config = ConfigDict(extra="allow")

    check: str
    profile: str | None
    level: str
    why: str
    fix: str


class Diagnosis(BaseModel):
    """Whether mail arrives."""

    ok: bool
    findings: list[Finding]


class SecretEntry(BaseModel):
    """Who has a password, and where it is kept."""

    owner: str
    source: str
    changed: str | None
    used: bool


def router() -> APIRouter:
    """Return the routes of the relay itself."""
    routes = APIRouter()
    _add_state(routes)
    _add_ways(routes)
    _add_secrets(routes)
    return routes


def _add_state(routes: APIRouter) -> None:
    @routes.get("/status", response_model=Status, responses=responses(), tags=["relay"], operation_id="status")
    async def status(caller: Asking) -> Any:
        """Tell how the relay is."""
        return await caller.run("status")

    @routes.get("/overview", response_model=Overview, responses=responses(), tags=["relay"], operation_id="overview")
    async def overview(caller: Asking) -> Any:
        """Tell how the relay is at a glance."""
        return await caller.run("overview")

    @routes.get("/groups", response_model=Groups, responses=responses(), tags=["agents"], operation_id="agent.groups")
    async def groups(caller: Asking) -> Any:
        """List the groups and roles that agents have."""
        return await caller.run("agent.groups")


def _add_ways(routes: APIRouter) -> None:
    @routes.get(
        "/providers", response_model=list[Told], responses=responses(), tags=["relay"], operation_id="provider.list"
    )
    async def providers(caller: Asking) -> Any:
        """List the providers whose servers can be added by name."""
        return await caller.run("provider.list")

    @routes.get("/route", response_model=Route, responses=responses(404, 409), tags=["relay"], operation_id="route")
    async def route(
        caller: Asking,
        sender: Annotated[str, Query(max_length=320, examples=["support@acmejets.example"])],
        from_header: Annotated[str | None, Query(max_length=998)] = None,
        login: Annotated[str | None, Query(max_length=320)] = None,
    ) -> Any:
        """Explain the way of a sender's mail. Nothing is sent."""
        return await caller.run("route", sender=sender, from_header=from_header, login=login)

    @routes.get(
        "/doctor", response_model=Diagnosis, responses=responses(404, 409), tags=["relay"], operation_id="doctor"
    )
    async def doctor(
        caller: Asking,
        profile: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
    ) -> Any:
        """Find out whether mail of a profile arrives, or of all. Nothing is sent."""
        findings = await caller.all_of("doctor", name=profile)
        return {"ok": all(one.get("level") != "bad" for one in findings), "findings": findings}


def _add_secrets(routes: APIRouter) -> None:
    @routes.get(
        "/secrets",
        response_model=list[SecretEntry],
        responses=responses(),
        tags=["secrets"],
        operation_id="secrets.list",
    )
    async def secrets(caller: Asking) -> Any:
        """List who has a password and where it is kept; no value is ever shown."""
        return await caller.run("secrets.list")

    @routes.post(
        "/secrets/import",
        response_model=Told,
        responses=responses(409),
        tags=["secrets"],
        operation_id="secrets.import",
    )
    async def import_secrets(caller: Asking) -> Any:
        """Move the passwords that stand in directory.toml to the vault."""
        return await caller.run("secrets.import")

    @routes.post(
        "/secrets/rotate",
        response_model=Told,
        responses=responses(409),
        tags=["secrets"],
        operation_id="secrets.rotate",
    )
    async def rotate(caller: Asking) -> Any:
        """Seal every password under a new master key."""
        return await caller.run("secrets.rotate")
