"""What workers tell each other, and nobody keeps."""

import asyncio
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from relay.cluster.ipc import IpcConnection, Message
from relay.cluster.peers import LOOK, Open, PeerCounts, PeerMetrics, Peers, share_pauses, share_server_health
from relay.config.settings import Delivery
from relay.delivery.holds import Accounts
from relay.delivery.outcome import Schedule
from relay.directory.model import Account, Meaning, Server
from relay.mail.reply import Reply
from relay.metrics import Counts
from relay.upstream.outcome import Failure, Phase
from tests.unit.cluster.cluster_kit import several, until


async def test_what_one_tells_all_others_hear() -> None:
    async with several(3) as (one, two, three):
        heard = asyncio.Queue[tuple[int, int, str]]()

        def note(to: int, who: int, message: Message) -> None:
            heard.put_nowait((to, who, message["text"]))

        for each in (one, two, three):
            each.on("word", partial(note, each.place.index))
        two.tell("word", text="hä\n")
        assert sorted([await heard.get(), await heard.get()]) == [(0, 1, "hä\n"), (2, 1, "hä\n")]
        assert heard.empty()


async def test_many_changes_in_a_row_are_one_look() -> None:
    async with several(2) as (one, two):
        looks = asyncio.Queue[int]()
        two.on(LOOK, lambda who, _: looks.put_nowait(who))
        for _ in range(100):
            one.look()
        assert await looks.get() == 0
        one.look()
        assert await looks.get() == 0
        assert looks.empty()


async def test_a_question_has_the_answers_of_all_others() -> None:
    async with several(3) as (one, two, three):
        two.answer("what", lambda: [2])
        three.answer("what", lambda: {"three": 3})
        answers: dict[int, Any] = {}
        await one.ask("what", answers)
        assert answers == {1: [2], 2: {"three": 3}}


async def test_no_sum_of_metrics_falls_when_a_worker_ends() -> None:
    def told(number: float) -> Counts:
        gauge = {"name": "g", "help": "", "type": "gauge", "samples": [["g", {}, number]]}
        counter = {"name": "c", "help": "", "type": "counter", "samples": [["c_total", {"of": "a"}, number]]}
        return [gauge, counter]

    def sums(found: Sequence[Counts]) -> dict[str, float]:
        samples = [sample for counts in found for metric in counts for sample in metric["samples"]]
        return {name: sum(value for sample, _, value in samples if sample == name) for name in ("g", "c_total")}

    async with several(3) as (one, two, three):
        metrics = PeerMetrics(one)
        for number, peers in ((5.0, two), (7.0, three)):
            PeerMetrics(peers).tell(partial(told, number))
        assert sums(await metrics.ask()) == {"g": 12.0, "c_total": 12.0}
        for ends in range(1, 3):
            three.tell("gone", to=0, index=1)  # as the supervisor does
            two.answer("metrics", partial(told, 1.0))
            await until(partial(one_is_gone, metrics))
            assert sums(await metrics.ask()) == {"g": 8.0, "c_total": 13.0 + (ends - 1)}


def one_is_gone(metrics: PeerMetrics) -> bool:
    return 1 not in metrics._told


async def test_one_that_is_silent_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.cluster.peers._ANSWER_SECONDS", 1.0)
    async with several(3) as (one, two, _):
        two.answer("what", lambda: 2)
        answers: dict[int, Any] = {}
        await one.ask("what", answers)
        assert answers == {1: 2}


async def test_a_word_that_meets_a_fault_ends_nothing() -> None:
    async with several(2) as (one, two):
        heard = asyncio.Queue[str]()

        def fail(who: int, message: object) -> None:
            raise ValueError(f"{who} {message}")

        two.on("word", fail)
        two.on("word", lambda _, message: heard.put_nowait(message["text"]))
        one.tell("word", text="a")
        assert await heard.get() == "a"


async def test_who_has_no_line_asks_nobody() -> None:
    alone = Peers()
    alone.tell("word")
    alone.look()
    answers: dict[int, Any] = {}
    await alone.ask("what", answers)
    assert answers == {}


async def test_a_line_ends_with_the_other_end_and_loses_what_nobody_reads() -> None:
    ours, theirs = socket.socketpair()
    one, two = await IpcConnection.over(ours), await IpcConnection.over(theirs)
    for _ in range(20):
        one.tell({"text": "x" * 1_000_000})
    one.tell({"text": "lost"})
    one.close()
    heard = [message["text"][:4] async for message in two.messages()]
    assert 0 < len(heard) < 20
    assert "lost" not in heard
    two.tell({"text": "to nobody"})
    two.close()


async def test_peer_counts_are_what_all_have_open() -> None:
    async with several(2) as (one, two):
        first = Open(pid=1, connections=3, clients={"10.0.0.1": 2, "10.0.0.2": 1}, accounts={"s/a": 1})
        second = Open(pid=2, connections=2, clients={"10.0.0.1": 2}, accounts={"s/a": 2, "s/b": 1})
        peer_counts, other = PeerCounts(one), PeerCounts(two)
        jobs = [
            asyncio.create_task(each.run(own)) for each, own in ((peer_counts, lambda: first), (other, lambda: second))
        ]
        await until(lambda: bool(peer_counts.others and other.others))
        assert (peer_counts.connections, peer_counts.of("10.0.0.1"), peer_counts.of("10.0.0.2")) == (2, 2, 0)
        assert peer_counts.accounts == {"s/a": 2, "s/b": 1}
        assert other.others == {0: first}
        two.tell("gone", index=1)  # the supervisor says this
        await until(lambda: not peer_counts.connections)
        for job in jobs:
            job.cancel()


NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
SERVER, JANE = Server(name="acmejets", host="h", max_connections=8), Account("acmejets", "jane")
SLOWER = Failure(phase=Phase.MAIL, reply=Reply(432, "4.3.2", "slower"), meaning=Meaning.THROTTLE, from_server=True)
AWAY = Failure(
    phase=Phase.CONNECT, reply=Reply(451, "4.4.1", "away"), meaning=Meaning.TEMPORARY, from_server=False, detail="cut"
)


def accounts() -> Accounts:
    return Accounts(Schedule.of(Delivery()))


async def test_pauses_and_servers_that_are_away_are_known_to_all() -> None:
    async with several(2) as (one, two):
        here, there = accounts(), accounts()
        for peers, known in ((one, here), (two, there)):
            share_pauses(peers, known)
            share_server_health(peers, known.servers)
        pause = here.slow_down(SERVER, JANE, SLOWER, NOW)
        here.servers.note("acmejets", AWAY, lambda: NOW)
        await until(lambda: bool(there.servers.unreached(NOW)))
        assert there.slowness_of(JANE, NOW) == pause
        assert there.servers.unreached(NOW) == here.servers.unreached(NOW)
        there.release("acmejets", "jane")
        there.servers.note("acmejets", None, lambda: NOW)
        await until(lambda: not here.servers.unreached(NOW))
        assert here.slowness_of(JANE, NOW) is None


async def test_one_that_begins_is_told_what_is_known() -> None:
    async with several(2) as (one, two):
        here, there = accounts(), accounts()
        share_pauses(one, here)
        share_server_health(one, here.servers)
        pause = here.slow_down(SERVER, JANE, SLOWER, NOW)
        here.servers.note("acmejets", AWAY, lambda: NOW)
        share_pauses(two, there)  # what was told before is lost
        share_server_health(two, there.servers)
        two.begin()
        await until(lambda: bool(there.servers.unreached(NOW)))
        assert there.slowness_of(JANE, NOW) == pause
