"""What waits: looked at, tried now, held, released and removed."""

from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import StreamingResponse

from relay.web.api.bodies import Body, Done, Given, example_of
from relay.web.api.endpoint import Asking, Caller, Media, Subject
from relay.web.api.messages import ID_PATTERN, Attempt, HeaderChange, Id, Journey, Mail, MessagePart, Next

_CONTENT = Media(
    "message/rfc822",
    "From: Support <support@acmejets.example>\r\nTo: ann@customer.example\r\nSubject: About your flight\r\n\r\n"
    "Hello,\r\nthis is about your flight.\r\n",
)
_LATER = "451 4.3.0 try again later"


class QueueSearch(MessagePart):
    """Which messages that wait."""

    profile: str | None = Field(
        None, max_length=320, description='The channel or agent whose they are; "": nobody\'s.', examples=["support"]
    )
    state: Literal["queued", "sending", "unknown", "held"] | None = Field(None, description="Those in this state.")
    contains: str = Field(
        "", max_length=320, description="A part of sender, recipients, subject or Message-ID.", examples=["ann"]
    )
    account: str | None = Field(
        None,
        max_length=320,
        description="Those that leave through this account, SERVER/USERNAME.",
        examples=["acmejets/support@acmejets.example"],
    )


class Waiting(Mail):
    """A message that waits, and what for."""

    example: ClassVar = {
        "state": "queued",
        "recipients": [{"address": "ann@customer.example", "state": "queued", "reply": _LATER}],
    }

    size: int = Field(description="In bytes.", examples=[4711])
    next_attempt: str | None = Field(description="Null where a person decides.", examples=["2026-11-24T09:59:13Z"])
    reason: str = Field(description="What it waits for.", examples=[_LATER])


class Waitings(Body):
    """A part of the queue, the oldest first."""

    items: list[Waiting]
    next: Next


class OpenJourney(Journey):
    """All that is known of a message that waits."""

    example: ClassVar = {
        "state": "queued",
        "recipients": [{"address": "ann@customer.example", "state": "queued", "reply": _LATER, "returned": None}],
        "delivered": None,
        "next_attempt": "2026-11-24T09:59:13Z",
        "held_since": None,
        "reason": _LATER,
        "reply": _LATER,
        "attempts": [example_of(Attempt)],
        "reports": [],
    }


class Preview(Body):
    """By which route a message that waits would leave now, and what would change in its header."""

    example: ClassVar = {
        "reason": "channel 'support' was chosen; it follows the default server 'acmejets' and logs in with its own "
        "account support@acmejets.example"
    }

    profile: str | None = Field(examples=["support"])
    server: str = Field(examples=["acmejets"])
    account: str = Field(description="SERVER/USERNAME.", examples=["acmejets/support@acmejets.example"])
    identity: str = Field(description="The address that it leaves with.", examples=["support@acmejets.example"])
    override: bool = Field(description="Whether the profile logs in with its own account.", examples=[True])
    sender: str = Field(
        description='The envelope sender that leaves; "" for the null sender.', examples=["support@acmejets.example"]
    )
    script: str | None = Field(description="The header rules that apply.", examples=["default"])
    reason: str = Field(description="Why it goes this way.")
    changes: list[HeaderChange]
    changes_left_out: int = Field(description="How many more header fields would be changed.", examples=[0])


class Retry(Given):
    """Which messages: these, those of a profile, or all that wait where both are left out."""

    example: ClassVar = {"profile": "support"}

    ids: list[Annotated[str, Field(pattern=ID_PATTERN)]] | None = Field(
        None, max_length=500, description="The messages. What a server may have already is tried early only here."
    )
    profile: str | None = Field(None, max_length=64, description="The channel or agent.")


class Retried(Body):
    """How many are tried now."""

    retried: int = Field(examples=[1])


def add_routes(routes: APIRouter) -> None:
    """Add the routes of the queue."""
    subject = Subject(routes, "queue")
    _add_looks(subject)
    _add_repairs(subject)


def _add_looks(subject: Subject) -> None:
    @subject.request("GET /queue", "queue.page", Waitings, 409)
    async def waiting(caller: Asking, wanted: Annotated[QueueSearch, Query()]) -> Any:
        """List what waits."""
        return await caller.find("queue.page", wanted)

    @subject.request("GET /queue/{id}", "queue.show", OpenJourney, 404, 409)
    async def show(caller: Asking, id: Id) -> Any:  # noqa: A002
        """Tell the journey of one message that waits. One of which all is over is a conflict: see `/messages/{id}`."""
        return await caller.run("queue.show", id=id)

    @subject.request("GET /queue/{id}/preview", "queue.preview", Preview, 404, 409)
    async def preview(caller: Asking, id: Id) -> Any:  # noqa: A002
        """Show what the next attempt of a message would do. Nothing is sent."""
        return await caller.run("queue.preview", id=id)

    @subject.request("GET /queue/{id}/content", "queue.export", _CONTENT, 404, 409)
    async def content(caller: Asking, id: Id) -> StreamingResponse:  # noqa: A002
        """Return a message as it came."""
        chunks = _chunks(caller, id)
        first = await anext(chunks, b"")  # a refusal comes before any answer
        return StreamingResponse(_after(first, chunks), media_type=_CONTENT.type)


def _add_repairs(subject: Subject) -> None:
    @subject.request("POST /retries", "queue.retry", Retried, 404, 409)
    async def retry(caller: Asking, body: Retry) -> Any:
        """Try messages now. Held ones stay held."""
        return await caller.run("queue.retry", ids=body.ids, profile=body.profile)

    @subject.request("POST /queue/{id}/hold", "queue.hold", Done, 404, 409)
    async def hold(caller: Asking, id: Id) -> Any:  # noqa: A002
        """Let a message wait until it is released."""
        return await caller.run("queue.hold", id=id)

    @subject.request("POST /queue/{id}/release", "queue.release", Done, 404, 409)
    async def release(caller: Asking, id: Id) -> Any:  # noqa: A002
        """Let a held message go on. One that waits for its account goes on when that is released."""
        return await caller.run("queue.release", id=id)

    @subject.request("DELETE /queue/{id}", "queue.remove", None, 404, 409)
    async def remove(caller: Asking, id: Id) -> None:  # noqa: A002
        """Take a message out of the queue. Nobody is told."""
        await caller.run("queue.remove", id=id)


async def _chunks(caller: Caller, id_: str) -> AsyncIterator[bytes]:
    async for item in caller.stream("queue.export", id=id_):
        yield b64decode(item["chunk"])


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
