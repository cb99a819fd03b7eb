"""The history: what became of every message, those that wait included."""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, BeforeValidator, Field

from relay.delivery.outcome import State
from relay.web.api.bodies import Body, Span, Told, example_of
from relay.web.api.endpoint import Asking, Subject

ID_PATTERN = "^[0-9a-z]{6,64}$"
ID = "06h15utl777uqv61uauktrji"
_PLACE = f"1795514292000000-{ID}"

Id: TypeAlias = Annotated[str, Path(pattern=ID_PATTERN, description="The id, or how it begins.", examples=[ID])]
Next: TypeAlias = Annotated[
    str | None,
    Field(
        description="Given back as `after` it brings the next part; null at the end. A part with few messages may "
        "still have a next one: looking further would have taken too long.",
        examples=[_PLACE],
    ),
]


class MessagePart(BaseModel):
    """Which part of a list of messages."""

    limit: int = Field(50, ge=1, le=200, description="How many at most.")
    after: str | None = Field(None, max_length=200, description="`next` of the part before.", examples=[_PLACE])


class MessageSearch(MessagePart, Span):
    """Which messages: those of which all of this is true."""

    sender: str | None = Field(
        None,
        max_length=320,
        description='The envelope sender: a whole address, which is quick, or a part of one; "<>" is the null sender.',
        examples=["support@acmejets.example"],
    )
    to: str | None = Field(
        None, max_length=320, description="A recipient, in the same way.", examples=["@customer.example"]
    )
    subject: str = Field("", max_length=320, description="A part of the subject.", examples=["your flight"])
    state: State | None = Field(None, description="The state of the message.")
    profile: str | None = Field(
        None,
        max_length=320,
        description='The channel or agent whose it is; "" is nobody\'s mail.',
        examples=["support"],
    )
    message_id: str | None = Field(
        None, max_length=320, description="The Message-ID.", examples=["<4711@contact-center.acmejets.example>"]
    )
    contains: str = Field(
        "", max_length=320, description="A part of sender, recipients, subject or Message-ID.", examples=["ann"]
    )


def _number(given: object) -> object:
    """Return the number that a text in an address is."""
    return int(given) if isinstance(given, str) and given.isascii() and given.isdigit() else given


class CountSearch(Span):
    """What is counted: the messages that came in 24 hours, where no time is given."""

    step: Annotated[Literal[300, 3600, 86400], BeforeValidator(_number)] = Field(
        3600, description="How many seconds are counted together."
    )


class Recipient(Body):
    """One recipient of a message, and what became of the copy."""

    address: str = Field(examples=["ann@customer.example"])
    state: State = Field(examples=[State.DELIVERED])
    reply: str = Field(
        description='The server\'s words about this copy; "" where there are none.',
        examples=["250 2.0.0 OK 1795514355 gsmtp"],
    )


class Mail(Body):
    """What is known of every message."""

    id: str = Field(examples=[ID])
    sender: str = Field(
        description='The envelope sender; "" for the null sender.', examples=["support@acmejets.example"]
    )
    recipients: list[Recipient]
    profile: str | None = Field(description="The channel or agent that it is of.", examples=["support"])
    server: str | None = Field(description="Where it goes next, or went last.", examples=["acmejets"])
    state: State = Field(examples=[State.DELIVERED])
    created: str = Field(description="When it came.", examples=["2026-11-24T09:58:12Z"])
    subject: str = Field(examples=["About your flight"])


class Summary(Mail):
    """A message in the history."""

    message_id: str = Field(examples=["<4711@contact-center.acmejets.example>"])
    delivered: str | None = Field(description="When the server took it.", examples=["2026-11-24T09:59:15Z"])
    reply: str = Field(description="The server's last words.", examples=["250 2.0.0 OK 1795514355 gsmtp"])


class Summaries(Body):
    """A part of the history, the newest first."""

    items: list[Summary]
    next: Next


class Returned(Body):
    """What a report said that came after the server had taken the message. It is a claim, and changes no state."""

    found: str = Field(examples=["2026-11-24T10:31:00Z"])
    status: str = Field(examples=["5.1.1"])
    words: str = Field(examples=["550 5.1.1 no such user"])
    reporter: str = Field(examples=["mx.customer.example"])


class Addressee(Recipient):
    """A recipient, with what came back of the copy."""

    example: ClassVar = {"returned": None}

    returned: Returned | None


class HeaderChange(Body):
    """A header field that differs when a message leaves; "" where it is not there."""

    field: str = Field(examples=["Organization"])
    before: str = Field(examples=[""])
    after: str = Field(examples=["Acme Jets"])


class Attempt(Body):
    """One attempt to hand a message over."""

    example: ClassVar = {"changes": None}

    number: int = Field(examples=[1])
    started: str = Field(examples=["2026-11-24T09:58:12Z"])
    ended: str | None = Field(description="Null while it is under way.", examples=["2026-11-24T09:58:14Z"])
    account: str | None = Field(description="SERVER/USERNAME.", examples=["acmejets/support@acmejets.example"])
    phase: str = Field(description="The step at which it ended, or the last one.", examples=["mail"])
    final_dot: bool = Field(
        description="Whether the whole message was sent: only then the server may have it.", examples=[False]
    )
    reply: str = Field(description="The server's words.", examples=["451 4.3.0 try again later"])
    meaning: str = Field(description='What they mean; "" where it took the message.', examples=["temporary"])
    tls: str = Field(description='The protection; "" for none.', examples=["TLSv1.3"])
    changes: list[HeaderChange] | None = Field(description="Null: not known, or the message did not leave with it.")
    changes_left_out: int = Field(description="How many more header fields were changed.", examples=[0])


class Report(Body):
    """What we wrote to the sender of a message about it."""

    id: str = Field(examples=["06h15v0qm2d9k1c5h4f0a7bs"])
    kind: str = Field(description="failed, delayed or delivered.", examples=["delayed"])
    state: State = Field(examples=[State.DELIVERED])
    created: str = Field(examples=["2026-11-24T13:58:12Z"])


class Journey(Summary, Told):
    """All that is known of a message."""

    example: ClassVar = {
        "next_attempt": None,
        "held_since": None,
        "attempts": [
            example_of(Attempt),
            {
                **example_of(Attempt),
                "number": 2,
                "started": "2026-11-24T09:59:13Z",
                "ended": "2026-11-24T09:59:15Z",
                "phase": "final",
                "final_dot": True,
                "reply": "250 2.0.0 OK 1795514355 gsmtp",
                "meaning": "",
                "changes": [example_of(HeaderChange)],
            },
        ],
        "reports": [],
    }

    recipients: list[Addressee]  # type: ignore[assignment]  # a list of more than those of the others
    account: str | None = Field(
        description="The account that it went by last, SERVER/USERNAME.",
        examples=["acmejets/support@acmejets.example"],
    )
    size: int = Field(description="In bytes.", examples=[4711])
    next_attempt: str | None
    reason: str = Field(description="Why it waits, or why it failed.", examples=[""])
    held_since: str | None
    held_by: str = Field(description='The account whose hold it waits for; "" for none.', examples=[""])
    client: str = Field(description="Who handed it in: a login, or an address.", examples=["contact-center"])
    peer: str = Field(description="From where.", examples=["127.0.0.1"])
    helo: str = Field(description="What the client called itself.", examples=["contact-center.acmejets.example"])
    protocol: str = Field(description="As in Received (RFC 3848).", examples=["ESMTPA"])
    is_report: bool = Field(description="Whether it is a report of ours about another message.", examples=[False])
    attempts: list[Attempt]
    reports: list[Report] = Field(description="What we wrote to its sender about it.")


class Step(Told):
    """What became of the messages that came in a stretch of time."""

    at: str = Field(description="When the stretch begins.", examples=["2026-11-24T09:00:00Z"])
    delivered: int = Field(examples=[118])
    failed: int = Field(examples=[1])
    queued: int = Field(examples=[2])
    held: int = Field(examples=[0])
    other: int = Field(description="Under way, unknown or removed.", examples=[0])


def add_routes(routes: APIRouter) -> None:
    """Add the routes of the history."""
    subject = Subject(routes, "messages")

    @subject.request("GET /messages", "messages.page", Summaries, 409)
    async def search(caller: Asking, wanted: Annotated[MessageSearch, Query()]) -> Any:
        """Search the history. All that is asked for must be true of a message."""
        return await caller.find("messages.page", wanted)

    @subject.request("GET /messages/counts", "messages.counts", list[Step], 409)
    async def counts(caller: Asking, wanted: Annotated[CountSearch, Query()]) -> Any:
        """Count the messages that came, by the state in which they are now.

        Steps are whole and without a gap, at most 2500; days are those of UTC.
        """
        return await caller.find("messages.counts", wanted)

    @subject.request("GET /messages/{id}", "messages.show", Journey, 404, 409)
    async def show(caller: Asking, id: Id) -> Any:  # noqa: A002
        """Tell the journey of one message."""
        return await caller.run("messages.show", id=id)
