"""Webhooks and alerts: how they answer, tests, and what is told again."""

from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from relay.web.api.bodies import Given, Moment, Told
from relay.web.api.endpoint import Asking, Subject
from relay.web.api.trials import TrialResult, trial_result

_SINCE = "2026-11-24T08:00:00Z"


class WebhookState(Told):
    """A program that is told what becomes of messages, and how it answers."""

    example: ClassVar = {"oldest": None, "since": None, "next_attempt": None}

    number: int = Field(description="Its number in relay.toml.", examples=[1])
    url: str = Field(
        description="Without what stands behind a question mark.", examples=["https://crm.acmejets.example/hooks/relay"]
    )
    events: list[str] = Field(description="What it is told.", examples=[["delivered", "failed", "returned"]])
    profiles: list[str] = Field(description="Of whose messages.", examples=[["*"]])
    state: Literal["ok", "failing", "new"] = Field(description="new: it was told nothing yet.", examples=["ok"])
    waiting: int = Field(description="Events that it is not told yet.", examples=[0])
    oldest: str | None = Field(description="When the oldest of them happened.")
    held: int = Field(description="Events that it did not take in three days.", examples=[0])
    failures: int = Field(description="How often it was asked in vain since it last took an event.", examples=[0])
    since: str | None = Field(description="Since when it takes no events.")
    next_attempt: str | None = Field(description="When it is asked again.")
    reason: str = Field(description='Why it takes no events; "" where it does.', examples=[""])
    delivered: str | None = Field(
        description="When it last took an event, within a minute.", examples=["2026-11-24T10:04:57Z"]
    )


class Replay(Given):
    """What is to be told again."""

    since: Moment = Field(description="What happened from then on, three days ago at most.", examples=[_SINCE])
    number: int | None = Field(None, description="One webhook only.", examples=[1])


class Replayed(Told):
    """How much is told again."""

    events: int = Field(examples=[14])


class ToldTrouble(Told):
    """A trouble that somebody was told of, and that is not over."""

    kind: str = Field(examples=["account-held"])
    title: str = Field(
        examples=["account acmejets/support@acmejets.example is held (login-refused): 535 5.7.8 not accepted"]
    )
    since: str = Field(description="When they were told first.", examples=["2026-11-24T09:58:44Z"])
    told: str = Field(description="When they were told last.", examples=["2026-11-24T09:58:44Z"])


class AlertState(Told):
    """Somebody who is told when something needs a person."""

    number: int = Field(description="Its number in relay.toml.", examples=[1])
    to: str = Field(examples=["mailto:ops@acmejets.example"])
    on: list[str] = Field(description="Of what.", examples=[["account-held", "disk-low"]])
    troubles: list[ToldTrouble] = Field(description="Of which they were told, and which are not over.")


_Number = Annotated[int, Path(ge=1, le=1000, description="Its number in relay.toml.", examples=[1])]


def add_routes(routes: APIRouter) -> None:
    """Add the routes."""
    subject = Subject(routes, "webhooks")

    @subject.request("GET /webhooks", "webhook.list", list[WebhookState])
    async def list_webhooks(caller: Asking) -> Any:
        """List the webhooks of relay.toml, how they answer, and what they are not told yet."""
        return await caller.run("webhook.list")

    @subject.request("POST /webhooks/{number}/test", "webhook.test", TrialResult, 404)
    async def test(caller: Asking, number: _Number) -> Any:
        """Post one event of the type relay.test to a webhook, signed as all are."""
        return trial_result(await caller.all_of("webhook.test", number=number))

    @subject.request("POST /webhooks/replay", "webhook.replay", Replayed, 404, 409)
    async def replay(caller: Asking, body: Replay) -> Any:
        """Let webhooks be told again what happened since a time."""
        return await caller.run("webhook.replay", since=body.since.isoformat(), number=body.number)


def add_alert_routes(routes: APIRouter) -> None:
    """Add the routes of alerts."""
    subject = Subject(routes, "alerts")

    @subject.request("GET /alerts", "alert.list", list[AlertState])
    async def list_alerts(caller: Asking) -> Any:
        """List who is told when something needs a person, and of what they were told."""
        return await caller.run("alert.list")

    @subject.request("POST /alerts/{number}/test", "alert.test", TrialResult, 404)
    async def test(caller: Asking, number: _Number) -> Any:
        """Tell somebody that this is a test. A mail goes into the queue."""
        return trial_result(await caller.all_of("alert.test", number=number))
