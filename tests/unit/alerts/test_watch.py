"""The watch: whom it tells, what it keeps, and what becomes of a recipient who cannot be told."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from relay.alerts.digest import Trouble
from relay.alerts.look import Sources
from relay.alerts.watch import Teller, Watch
from relay.config.notification import Alert
from relay.config.settings import Settings
from relay.delivery.holds import Unreached
from relay.directory.routing import Routing
from relay.directory.rules.validation import parse_directory
from relay.secrets.oauth.access_tokens import Tokens
from relay.store.queue.queue import Queue
from relay.upstream.outcome import Phase
from relay.webhooks.protocol import Answer
from tests.unit.alerts.alerts_kit import hold
from tests.unit.store.store_kit import NOW, open_queue

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MAIL, HOOK = Alert(to="mailto:ops@acmejets.example"), Alert(to="https://chat.example/h", secret_from="env:X")
DIRECTORY = {
    "default_server": "acmejets",
    "servers": {
        "acmejets": {"host": "smtp.example", "username": "a1@acmejets.example"},
        "second": {"host": "mx.example", "auth": "none", "address": "second@acmejets.example"},
    },
    "channels": {"sales": {"address": "sales@acmejets.example", "server": "second"}},
}


class World:
    """A watch over a store, with a clock and troubles that a test sets."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.now: datetime = NOW
        self.holds: list[Any] = []
        self.unreached: list[Unreached] = []
        self.answer = Answer()
        self.posted: list[tuple[str, bytes]] = []
        self.directory: Any = DIRECTORY
        sources = Sources(
            holds=lambda: self.holds,
            unreached=lambda _: self.unreached,
            oldest=self._oldest,
            certificate=lambda: None,
            free=lambda: None,
        )
        teller = Teller(
            queue=queue,
            routing=lambda: Routing(parse_directory(self.directory, "directory.toml")),
            sources=sources,
            posts=self._posts,
            secret=self._secret,
            hostname="relay.example",
            node="one",
            clock=lambda: self.now,
        )
        self.watch = Watch(
            table=queue.troubles,
            teller=teller,
            sources=sources,
            tokens=cast("Tokens", None),  # nobody logs in by OAuth
            settings=Settings,
            clock=lambda: self.now,
        )

    async def _oldest(self) -> None:
        return None

    async def _secret(self, _: str) -> str:
        return SECRET

    async def _posts(self) -> Any:
        return SimpleNamespace(post=self._post)

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        assert headers["webhook-signature"].startswith("v1,")
        self.posted.append((url, body))
        return self.answer

    async def go(self, *alerts: Alert, minutes: float = 2) -> None:
        """Look each half minute for so long."""
        end = self.now + timedelta(minutes=minutes)
        while self.now < end:
            await self.watch.look(alerts)
            await asyncio.sleep(0.01)  # for the doctor
            self.now += timedelta(seconds=30)

    async def mails(self) -> list[tuple[str | None, str]]:
        """The profile and subject of each mail in the queue, the oldest first."""
        return sorted((one.profile, one.subject) for one in await self.queue.search(limit=100))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_queue(tmp_path / "relay.db") as queue:
        yield World(queue)


async def test_each_is_told_of_what_it_wants_to_hear(world: World) -> None:
    world.holds = [hold(2), hold(3)]
    disk = Alert(to="mailto:disk@acmejets.example", on=("disk-low",))
    await world.go(MAIL, HOOK, disk)
    assert await world.mails() == [(None, "2 troubles")]
    assert [url for url, _ in world.posted] == [HOOK.to]
    assert {row.recipient for row in await world.queue.troubles.all()} == {MAIL.to, HOOK.to}


async def test_a_mail_leaves_by_a_way_that_is_in_no_trouble(world: World) -> None:
    world.holds = [hold(1)]  # the default server's own account
    await world.go(MAIL)
    assert await world.mails() == [("sales", "1 trouble")]


async def test_who_cannot_be_told_is_asked_again_and_nothing_is_kept(world: World) -> None:
    world.holds, world.answer = [hold(2)], Answer(reason="it answers 503 Service Unavailable")
    await world.go(HOOK, minutes=3)
    assert len(world.posted) > 2
    assert await world.queue.troubles.all() == []
    assert world.watch.untold == {HOOK.to: "it answers 503 Service Unavailable"}
    world.answer = Answer()
    world.posted.clear()
    await world.go(HOOK, minutes=10)
    assert len(world.posted) == 1
    assert world.watch.untold == {}


async def test_without_a_server_a_mail_cannot_leave(world: World) -> None:
    world.directory, world.holds = {}, [hold(2)]
    await world.go(MAIL)
    assert "default server" in world.watch.untold[MAIL.to]


async def test_who_is_told_no_more_is_forgotten(world: World) -> None:
    world.holds = [hold(2)]
    await world.go(MAIL, HOOK)
    await world.go(MAIL)
    assert {row.recipient for row in await world.queue.troubles.all()} == {MAIL.to}


def check(name: str) -> Trouble:
    return Trouble(kind="self-check", key=f"self-check {name}", title=f"support: {name}: bad", group=name)


async def test_the_doctor_looks_once_a_day_and_only_what_changed_is_told(world: World) -> None:
    looks: list[datetime] = []
    found = [check("spf"), check("dkim")]

    async def examine() -> list[Trouble]:
        looks.append(world.now)
        return list(found)

    world.watch.examine = examine
    to = Alert(to=HOOK.to, secret_from="env:X", on=("self-check",))
    await world.go(MAIL, minutes=2)
    assert looks == [], "nobody wants to hear of it"
    await world.go(to, minutes=10)
    assert len(looks) == len(world.posted) == 1
    world.now += timedelta(days=1)
    await world.go(to, minutes=10)
    assert (len(looks), len(world.posted)) == (2, 1), "nothing changed"
    found[1] = check("dmarc")
    world.now += timedelta(days=1)
    await world.go(to, minutes=10)
    told = [json.loads(body)["data"] for _, body in world.posted[1:]]
    assert [one["key"] for data in told for one in data["new"]["troubles"]] == ["self-check dmarc"]
    assert [one["key"] for data in told for one in data["over"]["troubles"]] == ["self-check dkim"]
    assert [one["key"] for data in told for one in data["still"]["troubles"]] == []


async def test_after_a_start_nothing_is_over_that_nobody_has_looked_at(world: World) -> None:
    away = Unreached("acmejets", NOW - timedelta(hours=1), NOW, 9, Phase.CONNECT, "refused")
    world.unreached = [away]

    async def examine() -> list[Trouble]:
        return [check("spf")]

    world.watch.examine = examine
    to = Alert(to=HOOK.to, secret_from="env:X", on=("self-check", "server-unreached"))
    await world.go(to, minutes=10)
    count = len(world.posted)
    again = World(world.queue)  # a start: nobody was tried yet, and the doctor was here today
    again.now = world.now
    again.watch.examine = examine
    await again.go(to, minutes=20)
    assert again.posted == []
    await again.go(to, minutes=20)
    assert [json.loads(body)["data"]["over"]["count"] for _, body in again.posted] == [1], "the server answers"
    assert count >= 1


async def test_a_doctor_who_fails_comes_again(world: World) -> None:
    looks: list[int] = []
    slept: list[float] = []

    async def examine() -> list[Trouble]:
        looks.append(1)
        raise RuntimeError("x")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    world.watch.examine, world.watch.sleep = examine, sleep
    await world.go(Alert(to=HOOK.to, secret_from="env:X", on=("self-check",)), minutes=3)
    assert len(looks) > 1
    assert slept[0] == 3600
