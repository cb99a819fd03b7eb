"""What becomes of a message that is handed over while its client waits (mode direct)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay.delivery.accounts import Accounts
from relay.delivery.bookkeeper import Bookkeeper
from relay.delivery.desk import Desk
from relay.delivery.history import History
from relay.delivery.journey import Ending, Journey
from relay.delivery.office import Office
from relay.delivery.postman import Postman
from relay.delivery.reporter import Reporter
from relay.delivery.schedule import Schedule
from relay.directory.client import Client
from relay.directory.model import Meaning, Mode
from relay.directory.routing import Routing
from relay.directory.rules import parse_directory
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Envelope, Recipient
from relay.mail.identity import Mismatch
from relay.mail.reply import Reply
from relay.mail.trace import Arrival, new_id
from relay.secrets.keeper import SecretKeeper
from relay.secrets.key_source import KeyFile
from relay.secrets.vault import Vault
from relay.settings import Delivery
from relay.store.database import open_database
from relay.store.messages import NewMessage
from relay.store.queue import Queue
from relay.store.secrets import SecretTable
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


@pytest.fixture
async def make_bench(tmp_path: Path) -> AsyncIterator[Maker]:
    tmp_path.chmod(0o700)
    database = await open_database(tmp_path / "relay.db")
    queue = Queue(database, "test")
    vault = await Vault.open(SecretTable(database), KeyFile(tmp_path / "master.key"))
    keeper = SecretKeeper(vault, {}, tmp_path)
    routing = Routing(parse_directory(DIRECTORY, "directory.toml"))

    def make(upstream: FakeUpstream | None = None, **arguments: Any) -> Bench:
        upstream = upstream or FakeUpstream()
        journeys: list[Journey] = []
        arguments = {"mode": Mode.DIRECT, "profile_url": "http://relay.test/profile"} | arguments
        office = Office(
            routing=lambda: routing,
            secrets=keeper,
            upstream=upstream,
            tell=journeys.append,
            mismatch=Mismatch.REWRITE,
            **arguments,
        )
        schedule = Schedule.of(Delivery())
        accounts, reporter = Accounts(schedule), Reporter("relay.test", schedule)
        postman = Postman(office, accounts, Bookkeeper(office, queue, schedule, reporter))
        return Bench(Desk("relay.test", office, postman, History(queue)), upstream, journeys)

    yield make
    await queue.aclose()
    await database.close()


def failed(meaning: Meaning, reply: Reply, phase: Phase = Phase.MAIL, *, from_server: bool = True) -> FakeUpstream:
    failure = Failure(phase=phase, reply=reply, meaning=meaning, from_server=from_server, detail="for the log")
    return FakeUpstream(Outcome(host="127.0.0.1", failure=failure))


@pytest.mark.parametrize(
    ("sender", "account", "identity", "password"),
    [
        ("news@acmejets.example", "house/house@acmejets.example", "house@acmejets.example", "house-password"),
        ("billing@acmejets.example", "acmejets/mailer@acmejets.example", "mailer@acmejets.example", "server-password"),
        ("support@acmejets.example", "acmejets/support@acmejets.example", "support@acmejets.example", "own-password"),
    ],
)
async def test_the_three_ways_log_in_and_leave_as_one_identity(
    make_bench: Maker, sender: str, account: str, identity: str, password: str
) -> None:
    bench = make_bench()
    reply = await bench.send(sender)
    (transfer,) = bench.upstream.transfers
    assert str(reply) == f"250 2.0.0 Ok: delivered via {transfer.server.name}: Ok: taken as 42"
    assert str(transfer.account) == account
    assert str(transfer.sender) == identity
    assert f"\r\nFrom: {identity}\r\n".encode() in b"\r\n" + transfer.content.header
    assert transfer.secret is not None
    assert transfer.secret.value == password
    assert transfer.all_or_none
    (journey,) = bench.journeys
    assert journey.ending is Ending.DELIVERED
    assert journey.message_id == "<1@here>"
    assert password not in repr(journey)


@pytest.mark.parametrize(
    ("meaning", "upstream", "client"),
    [
        (Meaning.REFUSED, Reply(550, "5.1.1", "no such user"), "550 5.1.1 no such user"),
        (Meaning.REFUSED, Reply(554, "5.0.0", "no"), "554 5.0.0 no"),
        (Meaning.TEMPORARY, Reply(450, "4.2.0", "greylisted"), "451 4.2.0 greylisted"),
        (Meaning.QUOTA, Reply(550, "5.4.5", "Daily user sending limit exceeded"), "451 4.7.8 "),
        (Meaning.LOGIN_REFUSED, Reply(535, "5.7.8", "bad password"), "451 4.7.8 "),
        (Meaning.IDENTITY_REFUSED, Reply(554, "5.2.252", "SendAsDenied"), "451 4.7.8 "),
        (Meaning.ACCOUNT_FULL, Reply(554, "5.2.2", "mailbox full"), "451 4.7.8 "),
        (Meaning.UNKNOWN, Reply(451, "4.4.2", "lost"), "451 4.4.2 "),
    ],
)
async def test_only_a_refusal_is_final_for_the_client(
    make_bench: Maker, meaning: Meaning, upstream: Reply, client: str
) -> None:
    bench = make_bench(failed(meaning, upstream))
    reply = await bench.send("support@acmejets.example")
    assert str(reply).startswith(client)
    (journey,) = bench.journeys
    assert journey.ending is (Ending.FAILED if reply.is_permanent else Ending.DEFERRED)
    assert journey.upstream == upstream


@pytest.mark.parametrize(
    ("meaning", "what_to_do"),
    [
        (Meaning.LOGIN_REFUSED, "please check it, or tell your administrator"),
        (Meaning.IDENTITY_REFUSED, "please tell your administrator"),
        (Meaning.QUOTA, "please try again later"),
        (Meaning.LOCK_OUT, "please try again later, or tell your administrator"),
        (Meaning.ACCOUNT_FULL, "please delete mail in it, or tell your administrator"),
    ],
)
async def test_whatever_holds_an_account_its_client_hears_the_same_code_and_what_to_do(
    make_bench: Maker, meaning: Meaning, what_to_do: str
) -> None:
    bench = make_bench(failed(meaning, Reply(550, "5.0.0", "in the words of the server")))
    said = [str(await bench.send("support@acmejets.example")) for _ in range(2)]
    assert len(bench.upstream.transfers) == 1, "the second meets the hold"
    assert said[0] == said[1]
    assert said[0].startswith("451 4.7.8 ")
    assert said[0].endswith(f"; {what_to_do}")


async def test_what_a_login_refusal_said_is_for_the_log_not_for_the_client(make_bench: Maker) -> None:
    bench = make_bench(failed(Meaning.LOGIN_REFUSED, Reply(535, "5.7.8", "account mailer at host 10.0.0.1")))
    reply = await bench.send("support@acmejets.example")
    assert "mailer" not in reply.text
    assert bench.journeys[0].upstream == Reply(535, "5.7.8", "account mailer at host 10.0.0.1")


@pytest.mark.parametrize(
    ("sender", "said"),
    [
        ("nobody@acmejets.example", "550 5.7.1 <nobody@acmejets.example>: no channel or agent sends from this address"),
        (
            "bare@acmejets.example",
            (
                "550 5.7.8 <bare@acmejets.example>: no email password is configured for this account; "
                "set it at http://relay.test/profile"
            ),
        ),
        ("support@acmejets.example", None),
        (None, None),
    ],
)
async def test_mail_is_judged_by_its_sender(make_bench: Maker, sender: str | None, said: str | None) -> None:
    reply = make_bench().desk.check_sender(CLIENT, envelope_of(sender))
    assert (str(reply) if reply else None) == said


async def test_a_client_sends_only_as_what_it_may_and_a_stranger_not_at_all(make_bench: Maker) -> None:
    desk = make_bench().desk
    app = Client("app", "127.0.0.1", ("billing",), is_trusted=True)
    stranger = Client("192.0.2.1", "192.0.2.1", (), is_trusted=False)
    refusal = desk.check_sender(app, envelope_of("support@acmejets.example"))
    assert str(refusal) == "550 5.7.1 <support@acmejets.example>: app may not send as this address"
    assert desk.check_sender(app, envelope_of("billing@acmejets.example")) is None
    for sender in ("support@acmejets.example", None):
        assert str(desk.check_sender(stranger, envelope_of(sender))) == "530 5.7.0 Authentication required"


async def test_a_null_sender_is_routed_by_from_and_stays_null(make_bench: Maker) -> None:
    bench = make_bench()
    assert (await bench.send(None)).code == 250
    (transfer,) = bench.upstream.transfers
    assert transfer.sender is None
    assert str(transfer.account) == "acmejets/support@acmejets.example"


async def test_a_null_sender_without_a_clear_from_is_refused(make_bench: Maker) -> None:
    bench = make_bench()
    reply = await bench.send(None, Content(b"Subject: hi\r\n", (b"x\r\n",)))
    assert str(reply).startswith("550 5.7.1 <>: ")
    assert bench.upstream.transfers == []
    assert bench.journeys[0].ending is Ending.REFUSED


async def test_a_server_without_its_password_keeps_the_message_with_the_client(make_bench: Maker) -> None:
    bench = make_bench()
    reply = await bench.send("lost@acmejets.example")
    assert str(reply).startswith("451 4.7.8 ")
    assert bench.journeys[0].detail == "no password is set for nulls/nulls@acmejets.example"


async def test_an_ambiguous_header_never_reaches_an_upstream(make_bench: Maker) -> None:
    bench = make_bench()
    reply = await bench.send("support@acmejets.example", Content(b"From : x@y.example\r\n", (b"x\r\n",)))
    assert str(reply).startswith("554 5.6.0 ")
    assert bench.upstream.transfers == []


async def test_all_recipients_or_none(make_bench: Maker) -> None:
    refusal = Failure(
        phase=Phase.RCPT, reply=Reply(550, "5.1.1", "no such user"), meaning=Meaning.REFUSED, from_server=True
    )
    bench = make_bench(FakeUpstream(Outcome(host="127.0.0.1", refused={1: refusal}, failure=refusal)))
    reply = await bench.send("support@acmejets.example", to="a@example.net,b@example.net")
    assert str(reply) == "550 5.1.1 no such user"


async def test_a_client_that_leaves_before_the_final_dot_ends_the_attempt(make_bench: Maker) -> None:
    bench = make_bench(FakeUpstream(gate=asyncio.Event()))
    submission = bench.desk.open(CLIENT, envelope_of("support@acmejets.example"), arrival_now())
    task = asyncio.create_task(submission.complete(MESSAGE))
    await bench.upstream.began.wait()
    submission.client_left()
    assert (await task).code == 451
    assert bench.upstream.was_cancelled
    assert bench.journeys[0].ending is Ending.DEFERRED


async def test_after_the_final_dot_the_outcome_is_recorded_even_without_a_client(make_bench: Maker) -> None:
    gate = asyncio.Event()
    bench = make_bench(FakeUpstream(gate=gate, stops_after_dot=True), direct_patience=0.01)
    submission = bench.desk.open(CLIENT, envelope_of("support@acmejets.example"), arrival_now())
    task = asyncio.create_task(submission.complete(MESSAGE))
    await bench.upstream.began.wait()
    submission.client_left()
    await asyncio.sleep(0.05)  # patience runs out meanwhile: it must not matter any more
    gate.set()
    assert (await task).code == 250
    assert not bench.upstream.was_cancelled
    assert bench.journeys[0].ending is Ending.DELIVERED


async def test_patience_ends_before_the_client_gives_up(make_bench: Maker) -> None:
    bench = make_bench(FakeUpstream(gate=asyncio.Event()), direct_patience=0.01)
    reply = await bench.send("support@acmejets.example")
    assert str(reply).startswith("451 4.4.1 ")
    assert bench.upstream.was_cancelled


async def test_the_history_says_when_the_server_took_a_message(make_bench: Maker) -> None:
    gate = asyncio.Event()
    bench = make_bench(FakeUpstream(gate=gate))
    sending = asyncio.create_task(bench.send("support@acmejets.example"))
    await bench.upstream.began.wait()
    taken = datetime.now(UTC)
    gate.set()
    assert (await sending).code == 250
    await bench.desk.history.flush()
    (message,) = await bench.desk.postman.queue.search(limit=2)
    assert message.delivered is not None
    assert message.created <= taken <= message.delivered <= datetime.now(UTC)


async def test_a_client_that_leaves_while_its_message_is_being_stored_leaves_none_under_way(make_bench: Maker) -> None:
    """Its patience is over and it will have its 250, so the delivery goes on: nobody else would end it."""
    gate = asyncio.Event()
    bench = make_bench(FakeUpstream(gate=gate), mode=Mode.AUTO, patience=0.01)
    queue = bench.desk.postman.queue
    submission = bench.desk.open(CLIENT, envelope_of("support@acmejets.example"), arrival_now())
    add = queue.add

    async def add_late(*news: NewMessage) -> None:
        submission.client_left()
        await add(*news)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "add", add_late)
        assert (await submission.complete(MESSAGE)).code == 250
    gate.set()
    await bench.desk.postman.stop()
    assert not bench.upstream.was_cancelled
    assert await queue.counts() == {}
    (message,) = await queue.search(limit=2)
    assert message.state == "delivered"


async def test_a_service_that_stops_does_not_cut_a_hand_over(make_bench: Maker) -> None:
    gate = asyncio.Event()
    bench = make_bench(FakeUpstream(gate=gate))
    submission = bench.desk.open(CLIENT, envelope_of("support@acmejets.example"), arrival_now())
    task = asyncio.create_task(submission.complete(MESSAGE))
    await bench.upstream.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not bench.upstream.was_cancelled
    gate.set()
