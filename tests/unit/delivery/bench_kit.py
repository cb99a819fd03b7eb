"""A acceptance with all that is behind it over an upstream that is none, and what is handed to it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from relay.config.settings import Settings
from relay.delivery.acceptance import Acceptance
from relay.delivery.attempt import Attempts, Upstream
from relay.delivery.dsn import Reporter
from relay.delivery.events import Journey, MessageEvents
from relay.delivery.history import History
from relay.delivery.holds import Accounts
from relay.delivery.outcome import Schedule
from relay.delivery.recorder import Recorder
from relay.delivery.submission import Submission
from relay.directory.client import Client
from relay.directory.model import Meaning
from relay.directory.routing import Routing
from relay.limits.limiter import Limiter
from relay.limits.local_ledger import LocalLedger
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Envelope, Recipient
from relay.mail.reply import Reply
from relay.mail.trace import Arrival, new_id
from relay.secrets.resolver import SecretResolver
from relay.store.queue.queue import Queue
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.transaction import BegunTransaction, Progress, Transfer

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
    cut_through: BegunTransaction | None = None
    began: asyncio.Event = field(default_factory=asyncio.Event)

    def begin_cut_through(self, transfer: Transfer) -> BegunTransaction | None:
        self.ahead.append(transfer)
        return self.cut_through

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
class DeliveryKit:
    """All of delivery over a store of its own: what accepts messages, and what tries them."""

    attempts: Attempts
    acceptance: Acceptance

    @property
    def recorder(self) -> Recorder:
        return self.attempts.recorder

    @property
    def accounts(self) -> Accounts:
        return self.attempts.accounts

    @property
    def queue(self) -> Queue:
        return self.recorder.queue

    @property
    def clock(self) -> Callable[[], datetime]:
        return self.recorder.clock

    def use(self, routing: Routing) -> None:
        """Let all of it go by this directory."""
        self.attempts.routing = self.acceptance.routing = self.recorder.routing = lambda: routing

    def with_history(self, history: History) -> Acceptance:
        self.acceptance.history = history
        return self.acceptance


def make_delivery(
    queue: Queue, secrets: SecretResolver, routing: Routing, upstream: Upstream, **acceptance: Any
) -> DeliveryKit:
    schedule = Schedule.of(Settings().delivery)
    recorder = Recorder(queue, lambda: routing, schedule, Reporter("relay.test", schedule), MessageEvents())
    attempts = Attempts(
        routing=lambda: routing,
        secrets=secrets,
        upstream=upstream,
        limits=Limiter(LocalLedger(queue)),
        accounts=Accounts(schedule),
        recorder=recorder,
    )
    facts = {"tell": lambda _: None, "history": History(queue), **acceptance}
    return DeliveryKit(
        attempts,
        Acceptance(hostname="relay.test", routing=lambda: routing, secrets=secrets, attempts=attempts, **facts),
    )


@dataclass
class Bench:
    """What accepts messages over a fake upstream, and the journeys it told."""

    acceptance: Acceptance
    upstream: FakeUpstream
    journeys: list[Journey]

    async def send(self, sender: str | None, content: Content = MESSAGE, to: str = "customer@example.net") -> Reply:
        return await complete(self.acceptance.open(CLIENT, envelope_of(sender, to), arrival_now()), content)


async def complete(submission: Submission, content: Content) -> Reply:
    """Begin a submission, and return what its client is told."""
    told: list[Reply] = []
    has_answer = asyncio.Event()

    def answer(reply: Reply) -> None:
        told.append(reply)
        has_answer.set()

    submission.begin(content, answer)
    await has_answer.wait()
    (reply,) = told
    return reply


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
