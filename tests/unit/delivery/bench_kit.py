"""A desk with all that is behind it over an upstream that is none, and what is handed to it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from relay.delivery.desk import Desk
from relay.delivery.events import Journey
from relay.directory.client import Client
from relay.directory.model import Meaning
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Envelope, Recipient
from relay.mail.reply import Reply
from relay.mail.trace import Arrival, new_id
from relay.upstream.outcome import Failure, Outcome
from relay.upstream.phase import Phase
from relay.upstream.transfer import Ahead, Progress, Transfer

DIRECTORY: dict[str, Any] = {
    "default_server": "acmejets",
    "servers": {
        "acmejets": {
            "host": "127.0.0.1",
            "security": "none",
            "username": "mailer@acmejets.example",
            "password": "server-password",
        },
        "house": {
            "host": "127.0.0.1",
            "security": "none",
            "username": "house@acmejets.example",
            "internal": True,
            "password": "house-password",
        },
        "nulls": {
            "host": "127.0.0.1",
            "security": "none",
            "username": "nulls@acmejets.example",
        },
    },
    "channels": {
        "support": {"address": "support@acmejets.example", "override": True, "password": "own-password"},
        "news": {"address": "news@acmejets.example", "server": "house"},
        "billing": {"address": "billing@acmejets.example"},
        "bare": {"address": "bare@acmejets.example", "override": True},
        "lost": {"address": "lost@acmejets.example", "server": "nulls"},
    },
}
CLIENT = Client("127.0.0.1", "127.0.0.1", ("*",), is_trusted=True)
MESSAGE = Content(b"From: support@acmejets.example\r\nSubject: hi\r\nMessage-ID: <1@here>\r\n", (b"Hello\r\n",))


@dataclass
class FakeUpstream:
    """Answers with one outcome, at once or when `gate` opens, and keeps what it was given."""

    outcome: Outcome = field(
        default_factory=lambda: Outcome(host="127.0.0.1", accepted=Reply(250, "2.0.0", "Ok: taken as 42"))
    )
    gate: asyncio.Event | None = None
    stops_after_dot: bool = False
    transfers: list[Transfer] = field(default_factory=list)
    was_cancelled: bool = False
    ahead: list[Transfer] = field(default_factory=list)
    head_start: Ahead | None = None
    began: asyncio.Event = field(default_factory=asyncio.Event)

    def run_ahead(self, transfer: Transfer) -> Ahead | None:
        self.ahead.append(transfer)
        return self.head_start

    async def deliver(self, transfer: Transfer, progress: Progress) -> Outcome:
        self.transfers.append(transfer)
        await progress.note_mail()
        progress.final_dot_sent = self.stops_after_dot
        self.began.set()
        try:
            if self.gate:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return self.outcome


@dataclass
class Bench:
    """A desk over a fake upstream, and the journeys it told."""

    desk: Desk
    upstream: FakeUpstream
    journeys: list[Journey]

    async def send(self, sender: str | None, content: Content = MESSAGE, to: str = "customer@example.net") -> Reply:
        return await self.desk.open(CLIENT, envelope_of(sender, to), arrival_now()).complete(content)


def envelope_of(sender: str | None, to: str = "customer@example.net") -> Envelope:
    recipients = tuple(Recipient(Address.parse(text)) for text in to.split(","))
    return Envelope(Address.parse(sender) if sender else None, recipients)


def arrival_now() -> Arrival:
    now = datetime.now(UTC)
    return Arrival("client", "127.0.0.1", "relay.test", "ESMTP", new_id(now), now)


Maker = Callable[..., Bench]


def failed(meaning: Meaning, reply: Reply, phase: Phase = Phase.MAIL, *, from_server: bool = True) -> FakeUpstream:
    failure = Failure(phase=phase, reply=reply, meaning=meaning, from_server=from_server, detail="for the log")
    return FakeUpstream(Outcome(host="127.0.0.1", failure=failure))
