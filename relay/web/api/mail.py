"""Messages, what waits, and the accounts that it waits for."""

from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from relay.web.api.caller import Asking, Caller, Moment, as_text
from relay.web.api.models import Done
from relay.web.api.problems import responses

Id = Annotated[
    str,
    Path(pattern="^[0-9a-z]{6,64}$", description="The id, or how it begins.", examples=["0v3k9d"]),
]
Text = Annotated[str, Query(max_length=320)]
OptionalText = Annotated[str | None, Query(max_length=320)]
After = Annotated[str | None, Query(max_length=200, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=200)]
State = Literal["queued", "sending", "unknown", "held", "delivered", "failed", "removed"]


class Recipient(BaseModel):
    """One recipient of a message, and what became of the copy."""

    address: str
    state: State
    reply: str


class Summary(BaseModel):
    """A message in the history."""

    id: str
    message_id: str
    sender: str = Field(description='The envelope sender; "" for the null sender.')
    recipients: list[Recipient]
    profile: str | None
    server: str | None
    state: State
    created: str
    delivered: str | None
    reply: str
    subject: str


class Waiting(BaseModel):
    """A message that waits, and what for."""

    id: str
    state: State
    sender: str
    profile: str | None
    server: str | None
    recipients: list[Recipient]
    size: int
    created: str
    next_attempt: str | None
    reason: str
    subject: str


class Returned(BaseModel):
    """What a report said that came after the server had taken the message."""

    found: str
    status: str
    words: str
    reporter: str


class Addressee(Recipient):
    """A recipient, with what came back of the copy."""

    returned: Returned | None


class HeaderChange(BaseModel):
    """A header field that differs when a message leaves; "" where it is not there."""

    field: str
    before: str
    after: str


class Attempt(BaseModel):
    """One attempt to hand a message over."""

    number: int
    started: str
    ended: str | None
    account: str | None
    phase: str
    final_dot: bool
    reply: str
    meaning: str
    tls: str
    changes: list[HeaderChange] | None = Field(description="null: not known, or the message did not leave with it.")
    changes_left_out: int = Field(description="How many more header fields were changed.")


class Journey(BaseModel):
    """All that is known of a message."""

    model_config = ConfigDict(extra="allow")

    id: str
    message_id: str
    sender: str
    recipients: list[Addressee]
    profile: str | None
    server: str | None
    account: str | None
    state: State
    created: str
    delivered: str | None
    next_attempt: str | None
    held_since: str | None
    reason: str
    reply: str
    size: int
    subject: str
    client: str
    peer: str
    helo: str
    protocol: str
    is_report: bool
    attempts: list[Attempt]


class Preview(BaseModel):
    """By which route a message that waits would leave now, and what would change in its header."""

    profile: str | None
    server: str
    account: str
    identity: str
    override: bool
    sender: str
    script: str | None
    reason: str
    changes: list[HeaderChange]
    changes_left_out: int = Field(description="How many more header fields would be changed.")


class Summaries(BaseModel):
    """A part of the history, the newest first."""

    items: list[Summary]
    next: str | None = Field(description="`after` of the next page; null at the end.")


class Waitings(BaseModel):
    """A part of the queue, the oldest first."""

    items: list[Waiting]
    next: str | None = Field(description="`after` of the next page; null at the end.")


class Account(BaseModel):
    """Whom mail logs in as."""

    model_config = ConfigDict(extra="allow")

    account: str
    server: str
    username: str
    address: str = Field(description='"" for the whole account, or the one address of it that is held.')
    profiles: list[str]
    state: Literal["ok", "slowed", "held"]
    held_since: str | None
    reason: str
    connections: int


class Troubled(BaseModel):
    """An account that is held or slowed, and what to do about it."""

    model_config = ConfigDict(extra="allow")

    account: str
    state: Literal["slowed", "held"]
    reason: str
    advice: str


class Retry(BaseModel):
    """Which messages: these, those of a profile, or all that wait where both are left out."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Annotated[str, Field(pattern="^[0-9a-z]{6,64}$")]] | None = Field(None, max_length=500)
    profile: str | None = Field(None, max_length=64)


class Retried(BaseModel):
    """How many are tried now."""

    retried: int


class Step(BaseModel):
    """What became of the messages that came in a stretch of time."""

    model_config = ConfigDict(extra="allow")

    at: str


def router() -> APIRouter:
    """Return the routes of mail."""
    routes = APIRouter()
    _add_history(routes)
    _add_queue(routes)
    _add_repairs(routes)
    _add_accounts(routes)
    return routes


def _add_history(routes: APIRouter) -> None:
    @routes.get(
        "/messages", response_model=Summaries, responses=responses(409), tags=["messages"], operation_id="messages.page"
    )
    async def search(  # noqa: PLR0913, PLR0917 - what a history can be asked
        caller: Asking,
        sender: OptionalText = None,
        to: OptionalText = None,
        subject: Text = "",
        state: State | None = None,
        profile: OptionalText = None,
        message_id: OptionalText = None,
        since: Moment = None,
        until: Moment = None,
        contains: Text = "",
        limit: Limit = 50,
        after: After = None,
    ) -> Any:
        """Search the history: messages of which all of this is true."""
        return await caller.run(
            "messages.page",
            sender=sender,
            to=to,
            subject=subject,
            state=state,
            profile=profile,
            message_id=message_id,
            since=as_text(since),
            until=as_text(until),
            contains=contains,
            limit=limit,
            after=after,
        )

    @routes.get(
        "/messages/counts",
        response_model=list[Step],
        responses=responses(409),
        tags=["messages"],
        operation_id="messages.counts",
    )
    async def counts(
        caller: Asking, since: Moment = None, until: Moment = None, step: Literal[300, 3600, 86400] = 3600
    ) -> Any:
        """Count what came, by what became of it, in steps of so many seconds."""
        return await caller.run("messages.counts", since=as_text(since), until=as_text(until), step=step)

    @routes.get(
        "/messages/{id}",
        response_model=Journey,
        responses=responses(404, 409),
        tags=["messages"],
        operation_id="messages.show",
    )
    async def show(caller: Asking, id: Id) -> Any:  # noqa: A002
        """Tell the journey of one message."""
        return await caller.run("messages.show", id=id)


def _add_queue(routes: APIRouter) -> None:
    @routes.get("/queue", response_model=Waitings, responses=responses(409), tags=["queue"], operation_id="queue.page")
    async def waiting(
        caller: Asking,
        profile: OptionalText = None,
        state: Literal["queued", "sending", "unknown", "held"] | None = None,
        contains: Text = "",
        account: OptionalText = None,
        limit: Limit = 50,
        after: After = None,
    ) -> Any:
        """List what waits."""
        return await caller.run(
            "queue.page",
            profile=profile,
            state=state,
            contains=contains,
            account=account,
            limit=limit,
            after=after,
        )

    @routes.post(
        "/retries",
        response_model=Retried,
        responses=responses(404, 409),
        tags=["queue"],
        operation_id="queue.retry",
    )
    async def retry(caller: Asking, body: Retry) -> Any:
        """Try messages now."""
        return await caller.run("queue.retry", ids=body.ids, profile=body.profile)

    @routes.get(
        "/queue/{id}",
        response_model=Journey,
        responses=responses(404, 409),
        tags=["queue"],
        operation_id="queue.show",
    )
    async def show(caller: Asking, id: Id) -> Any:  # noqa: A002
        """Show one message that waits."""
        return await caller.run("queue.show", id=id)

    @routes.get("/queue/{id}/preview", response_model=Preview, responses=responses(404, 409), tags=["queue"])
    async def preview(caller: Asking, id: Id) -> Any:  # noqa: A002
        """Show what the next attempt of a message would do. Nothing is sent."""
        return await caller.run("queue.preview", id=id)


def _add_repairs(routes: APIRouter) -> None:
    @routes.post("/queue/{id}/hold", response_model=Done, responses=responses(404, 409), tags=["queue"])
    async def hold(caller: Asking, id: Id) -> Any:  # noqa: A002
        """Let a message wait until it is released."""
        return await caller.run("queue.hold", id=id)

    @routes.post("/queue/{id}/release", response_model=Done, responses=responses(404, 409), tags=["queue"])
    async def release(caller: Asking, id: Id) -> Any:  # noqa: A002
        """Let a held message go on."""
        return await caller.run("queue.release", id=id)

    @routes.delete("/queue/{id}", status_code=204, responses=responses(404, 409), tags=["queue"])
    async def remove(caller: Asking, id: Id) -> None:  # noqa: A002
        """Take a message out of the queue. Nobody is told."""
        await caller.run("queue.remove", id=id)

    @routes.get(
        "/queue/{id}/content",
        response_class=StreamingResponse,
        responses={**responses(404, 409), 200: {"content": {"message/rfc822": {}}}},
        tags=["queue"],
        operation_id="queue.export",
    )
    async def content(caller: Asking, id: Id) -> StreamingResponse:  # noqa: A002
        """Return a message as it came."""
        chunks = _chunks(caller, id)
        first = await anext(chunks, b"")  # a refusal comes before any answer
        return StreamingResponse(_after(first, chunks), media_type="message/rfc822")


def _add_accounts(routes: APIRouter) -> None:
    @routes.get(
        "/accounts", response_model=list[Account], responses=responses(), tags=["accounts"], operation_id="account.list"
    )
    async def list_accounts(caller: Asking) -> Any:
        """List the accounts that mail leaves through, and what holds them."""
        return await caller.run("account.list")

    @routes.get(
        "/accounts/troubled",
        response_model=list[Troubled],
        responses=responses(),
        tags=["accounts"],
        operation_id="account.troubled",
    )
    async def troubled(caller: Asking) -> Any:
        """List the accounts that are held or slowed, with what to do about each."""
        return await caller.run("account.troubled")

    @routes.post(
        "/accounts/{server}/{username}/release",
        response_model=Done,
        responses=responses(404, 409),
        tags=["accounts"],
        operation_id="account.release",
    )
    async def release(
        caller: Asking,
        server: Annotated[str, Path(max_length=64, examples=["acmejets"])],
        username: Annotated[str, Path(max_length=320, examples=["mailer@acmejets.example"])],
    ) -> Any:
        """Let the mail of a held account go on."""
        return await caller.run("account.release", account=f"{server}/{username}")


async def _chunks(caller: Caller, id_: str) -> AsyncIterator[bytes]:
    async for item in caller.stream("queue.export", id=id_):
        yield b64decode(item["chunk"])


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
