"""The sender: what it posts when, and what becomes of an event that is not taken."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from relay.config.notification import Webhook
from relay.secrets.sources import SecretUnavailable
from relay.store.db.database import Database, open_database
from relay.store.queue.messages import NewEvent
from relay.store.queue.outbox import Outbox, insert_events
from relay.webhooks import sender as sender_module
from relay.webhooks.protocol import Answer, answer_of, event_pause, peak_pause, webhook_pause
from relay.webhooks.sender import Sender
from tests.unit.store.store_kit import NOW

CRM = Webhook(url="https://crm.example/h?key=1", secret_from="env:HOOK")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TAKEN, AWAY = Answer(), Answer(reason="it cannot be reached: no")
REFUSED = Answer(reason="it answers 400 Bad Request", is_about_event=True)


class Clock:
    """A clock that goes on when somebody sleeps; where nothing is left to do, it stands still."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds == 10:  # what counts goes by no clock
            await asyncio.sleep(0.01)  # between two looks
            return
        self.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)


class Posts:
    """Takes what is posted; `answers` says what of it is not taken."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.posted: list[tuple[str, float]] = []  # the id, and when
        self.answers: Callable[[str], Answer] = lambda _: TAKEN
        self.under_way = self.most = 0
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        assert url == CRM.url
        assert headers["content-type"] == "application/json"
        signature = Verifier(SECRET).sign(headers["webhook-id"], self.clock.now.replace(microsecond=0), body.decode())
        assert headers["webhook-signature"] == signature
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.is_open.wait()
        self.under_way -= 1
        self.posted.append((headers["webhook-id"], (self.clock.now - NOW).total_seconds()))
        return self.answers(headers["webhook-id"])

    @property
    def ids(self) -> list[str]:
        return [id_ for id_, _ in self.posted]


class Lead:
    """A lead that a test gives and takes."""

    lease = None
    is_ours = True


class World:
    """A sender over a store, its clock and its webhook."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Clock()
        self.posts = Posts(self.clock)
        self.secret = SECRET
        self.lead = Lead()
        self.outbox = Outbox(database)
        self.sender = Sender(
            outbox=self.outbox,
            posts=self.posts,
            secret=self._secret,
            lead=self.lead,
            clock=self.clock,
            chance=lambda: 0.5,
            sleep=self.clock.sleep,
        )

    async def _secret(self, _: str) -> str:
        if not self.secret:
            raise SecretUnavailable("env:HOOK: that variable is not set")
        return self.secret

    async def write(self, *events: tuple[str, str]) -> None:
        rows = [NewEvent(id_, CRM.url, message, self.clock.now, "{}") for id_, message in events]
        await self.database.write(lambda c: insert_events(c, rows))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.sender.follow([CRM])
        try:
            yield
        finally:
            await self.sender.rest()

    async def until(self, check: Callable[[], bool], what: str) -> None:
        async with asyncio.timeout(20):
            while not check():  # noqa: ASYNC110  the sender's clock has no event
                await asyncio.sleep(0.001)
        assert check(), what


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = await open_database(tmp_path / "relay.db")
    yield World(database)
    await database.close()


async def test_all_is_told_once_and_in_order_a_message(world: World) -> None:
    await world.write(*((f"e{number}", f"m{number % 7}") for number in range(50)))
    async with world.running():
        await world.until(lambda: len(world.posts.posted) >= 50, "all")
    assert sorted(world.posts.ids) == sorted(f"e{number}" for number in range(50))
    of_message = defaultdict(list)
    for id_ in world.posts.ids:
        of_message[int(id_[1:]) % 7].append(int(id_[1:]))
    assert all(numbers == sorted(numbers) for numbers in of_message.values())
    assert await world.outbox.backlogs() == {}
    assert world.posts.most <= 4, "a few at once"
    (state,) = (await world.outbox.states()).values()
    assert (state.failures, state.delivered is not None) == (0, True)


async def test_what_was_taken_before_a_stop_is_not_told_again(world: World) -> None:
    """The first of four requests is answered, the others are under way while the sender stops."""
    await world.write(("e0", "m0"), ("e1", "m1"), ("e2", "m2"), ("e3", "m3"))
    post, is_answered = world.posts.post, asyncio.Event()

    async def only_the_first(url: str, headers: dict[str, str], body: bytes) -> Answer:
        if headers["webhook-id"] != "e0":
            await asyncio.Event().wait()
        is_answered.set()
        return await post(url, headers, body)

    world.posts.post = only_the_first  # type: ignore[method-assign]
    async with world.running():
        await is_answered.wait()
        await world.until(lambda: world.posts.ids == ["e0"], "the first is taken")
    (backlog,) = (await world.outbox.backlogs()).values()
    assert backlog.waiting == 3


async def test_a_webhook_that_is_away_is_asked_now_and_then_with_one_event(world: World) -> None:
    world.posts.answers = lambda _: AWAY
    await world.write(*((f"e{number}", f"m{number}") for number in range(40)))
    async with world.running():
        await world.until(lambda: world.clock.now > NOW + timedelta(minutes=30), "half an hour")
        moments = [at for _, at in world.posts.posted]
        assert len(moments) < 4 + 20, "a few at first, then one each five minutes at last"
        gaps = [later - before for before, later in pairwise(moments[4:])]
        assert gaps == sorted(gaps)
        (state,) = (await world.outbox.states()).values()
        assert state.reason == AWAY.reason
        world.posts.answers = lambda _: TAKEN
        world.posts.posted.clear()
        await world.until(lambda: len(set(world.posts.ids)) == 40, "all, soon after it is back")
        assert world.posts.posted[-1][1] - world.posts.posted[0][1] < 60


async def test_an_event_that_is_refused_holds_up_no_other_message(world: World) -> None:
    world.posts.answers = lambda id_: REFUSED if id_ == "bad" else TAKEN
    await world.write(("bad", "m1"), ("behind", "m1"), *((f"e{number}", f"n{number}") for number in range(20)))
    async with world.running():
        await world.until(lambda: len(set(world.posts.ids)) == 21, "the others")
        assert "behind" not in world.posts.ids
        await world.until(lambda: world.posts.ids.count("bad") >= 3, "it is tried again")
        await world.write(("late", "m9"))
        await world.until(lambda: "late" in world.posts.ids, "what comes later")
        world.posts.answers = lambda _: TAKEN
        await world.until(lambda: "behind" in world.posts.ids, "what was behind it")


async def test_after_three_days_it_is_held_and_a_replay_brings_it(world: World) -> None:
    world.posts.answers = lambda _: AWAY
    await world.write(("a", "m1"), ("b", "m1"), ("c", "m2"))
    async with world.running():
        await world.until(lambda: len(world.posts.posted) > 3, "some tries")
        world.clock.now += timedelta(days=3)
        await world.until(lambda: world.clock.now > NOW + timedelta(days=3, minutes=10), "three days")
    (backlog,) = (await world.outbox.backlogs()).values()
    assert (backlog.waiting, backlog.held) == (0, 3)
    world.posts.answers = lambda _: TAKEN
    world.posts.posted.clear()
    assert await world.outbox.replay([CRM.url], NOW, world.clock.now) == 3
    async with world.running():
        await world.until(lambda: len(world.posts.posted) == 3, "all")
    assert [id_ for id_ in world.posts.ids if id_ != "c"] == ["a", "b"]


async def test_without_its_secret_nothing_is_posted_and_the_reason_is_kept(world: World) -> None:
    world.secret = ""
    await world.write(("a", "m1"))
    async with world.running():
        await world.until(lambda: world.clock.now > NOW + timedelta(minutes=1), "a minute")
        assert world.posts.posted == []
        (state,) = (await world.outbox.states()).values()
        assert state.reason == "env:HOOK: that variable is not set"
        world.secret = "hunter2"
        await world.until(lambda: world.clock.now > NOW + timedelta(minutes=20), "some more")
        (state,) = (await world.outbox.states()).values()
        assert state.reason.startswith("the secret of a webhook is whsec_")
        world.secret = SECRET
        await world.until(lambda: world.posts.ids == ["a"], "it is told")


async def test_who_does_not_lead_posts_nothing(world: World) -> None:
    world.lead.is_ours = False
    await world.write(("a", "m1"))
    async with world.running():
        await world.until(lambda: world.clock.now > NOW + timedelta(minutes=1), "a minute")
        assert world.posts.posted == []
        world.lead.is_ours = True
        await world.until(lambda: world.posts.ids == ["a"], "it is told")


async def test_what_was_told_when_it_ends_is_not_told_again(world: World) -> None:
    await world.write(*((f"e{number}", f"m{number}") for number in range(8)))

    def answers(id_: str) -> Answer:
        if id_ == "e3":
            world.posts.is_open.clear()  # the second four hang
        return TAKEN

    world.posts.answers = answers
    async with world.running():
        await world.until(lambda: len(world.posts.posted) == 4 and world.posts.under_way == 4, "four, and four more")
    (backlog,) = (await world.outbox.backlogs()).values()
    assert backlog.waiting == 4


async def test_in_a_peak_of_mail_events_leave_slower_and_all_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module._Traffic, "rate", lambda _: 500.0)
    await world.write(*((f"e{number}", f"m{number}") for number in range(40)))
    async with world.running():
        await world.until(lambda: len(world.posts.posted) >= 40, "all")
    assert world.posts.posted[-1][1] - world.posts.posted[0][1] > 0.5, "by the clock of the sender"


async def test_a_fault_of_the_store_ends_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failed = Outbox.due, list[int]()

    async def due(self: Outbox, url: str, now: datetime, limit: int):  # type: ignore[no-untyped-def]
        if len(failed) < 2:
            failed.append(1)
            raise RuntimeError("x")
        return await real(self, url, now, limit)

    monkeypatch.setattr(Outbox, "due", due)
    await world.write(("a", "m1"))
    async with world.running():
        await world.until(lambda: world.posts.ids == ["a"], "it is told")


def test_the_pauses_grow_and_are_spread() -> None:
    assert [event_pause(number, 0.5) for number in (0, 1, 7, 99)] == [5, 30, 14400, 14400]
    assert [webhook_pause(number, 0.5) for number in (1, 2, 6, 99)] == [1, 5, 300, 300]
    assert (event_pause(0, 0.0), event_pause(0, 1.0)) == (4.5, 5.5)
    assert peak_pause(10, 0, 4) == 0
    assert peak_pause(500, 0, 4) > 0
    assert peak_pause(500, 61, 4) == 0, "what is late goes first, however much mail there is"


@pytest.mark.parametrize(
    ("status", "about_event"), [(400, True), (413, True), (422, True), (401, False), (404, False), (410, False)]
)
def test_what_a_refusal_is_about(status: int, *, about_event: bool) -> None:
    answer = answer_of(status)
    assert answer.is_about_event is about_event
    assert str(status) in answer.reason


def test_what_other_answers_mean() -> None:
    assert answer_of(200) == answer_of(204) == TAKEN
    assert answer_of(302).reason == "it answers 302 Found"
    assert answer_of(799).reason == "it answers 799"
    assert answer_of(503, b"120").wait == 120
    assert answer_of(429, b"99999999").wait == 3600
    assert answer_of(429, b"Wed, 21 Oct").wait == answer_of(429, b"1" * 50).wait == 0
