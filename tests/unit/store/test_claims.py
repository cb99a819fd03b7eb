import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from relay.store.queue.claims import Living
from relay.store.queue.queue import Queue
from tests.unit.store.store_kit import (
    CONTENT,
    MINUTE,
    NOW,
    StorePlace,
    attempt,
    delivered,
    name_of,
    new,
    new_message,
    open_queue,
    settlement,
)

SECOND = timedelta(seconds=1)


async def test_what_is_due_is_claimed_oldest_first_and_nothing_else(queue: Queue) -> None:
    waiting = {"late": -9, "later": -3, "due": 0, "early": 1}
    await queue.add(*(new(new_message(id_, next_attempt=NOW + s * SECOND)) for id_, s in waiting.items()))
    await queue.add(new(new_message("held", next_attempt=None)))
    await queue.add(new(new_message("others", profile="jane")))
    first = await queue.claim(["support"], 2, NOW, "sending")
    assert [message.id for message in first] == ["late", "later"]
    assert {message.state for message in first} == {"sending"}
    assert {message.fence for message in first} == {1}
    assert [message.id for message in await queue.claim(["support", "nobody here"], 9, NOW, "sending")] == ["due"]
    assert await queue.claim(["support"], 9, NOW, "sending") == []


async def test_claims_go_over_profiles_and_nobody_is_a_profile(queue: Queue) -> None:
    names = ("a", "b", None, "c")
    for number in range(12):
        due = NOW - (20 - number) * SECOND
        await queue.add(new(new_message(f"{number:02}", profile=names[number % 4], next_attempt=due)))
    assert [each.id for each in await queue.claim(names, 5, NOW, "sending")] == ["00", "01", "02", "03", "04"]
    assert [each.id for each in await queue.claim([None], 5, NOW, "sending")] == ["06", "10"]
    assert [each.id for each in await queue.claim(("a", "c", "a"), 3, NOW, "sending")] == ["07", "08", "11"]
    assert await queue.claim([], 5, NOW, "sending") == []
    assert await queue.claim(names, 0, NOW, "sending") == []


async def test_those_who_claim_at_once_have_what_is_theirs_and_nothing_twice(queue: Queue) -> None:
    names = [f"agent{number}" for number in range(30)]
    await queue.add(*(new(new_message(f"{name}-{n}", profile=name)) for name in names for n in range(3)))
    lists = [[name] for name in names] * 2 + [names]
    claimed = await asyncio.gather(*(queue.claim(profiles, 2, NOW, "sending") for profiles in lists))
    for profiles, messages in zip(lists, claimed, strict=True):
        assert {message.profile for message in messages} <= set(profiles)
        assert len(messages) <= 2
    ids = [message.id for messages in claimed for message in messages]
    assert len(ids) == len(set(ids)) >= 60
    assert {message.fence for messages in claimed for message in messages} == {1}


async def test_very_many_profiles_can_be_asked_for_at_once(queue: Queue) -> None:
    names = [f"agent{number}" for number in range(10_000)]
    await queue.add(*(new(new_message(profile=name)) for name in names[::2000]))
    claimed = await queue.claim(names, 100, NOW, "sending")
    assert sorted(str(message.profile) for message in claimed) == sorted(names[::2000])


async def test_due_times_tell_of_every_profile_what_waits_first(queue: Queue) -> None:
    assert await queue.due_times() == {}
    for id_, profile, wait in (("a", "support", 2), ("b", "support", 1), ("c", None, 3)):
        await queue.add(new(new_message(id_, profile=profile, next_attempt=NOW + wait * MINUTE)))
    await queue.add(new(new_message("d", profile="jane", next_attempt=None)))
    assert await queue.due_times() == {"support": NOW + MINUTE, None: NOW + 3 * MINUTE}
    assert await queue.claim_one("b", "sending") is not None
    assert await queue.due_times() == {"support": NOW + 2 * MINUTE, None: NOW + 3 * MINUTE}


async def test_one_message_can_be_claimed_before_it_is_due(queue: Queue) -> None:
    await queue.add(new(new_message("a", next_attempt=NOW + MINUTE)), new(new_message("held", next_attempt=None)))
    message = await queue.claim_one("a", "sending")
    assert message == replace(new_message("a", next_attempt=NOW + MINUTE), state="sending", fence=1)
    for id_ in ("a", "held", "missing"):
        assert await queue.claim_one(id_, "sending") is None


async def test_no_message_is_claimed_twice(place: StorePlace) -> None:
    """Two runs of the store and many claims at once; settled messages come back in between."""
    async with open_queue(place, "one") as one, open_queue(place, "two") as two:
        await one.add(*(new(new_message(f"{number:03}")) for number in range(120)))
        seen: Counter[str] = Counter()

        async def work(queue: Queue) -> None:
            while claimed := await queue.claim(["support"], 7, NOW, "sending"):
                seen.update(f"{message.id} {message.fence}" for message in claimed)
                for message in claimed:
                    is_over = message.fence == 2
                    await queue.settle(delivered(message) if is_over else settlement(message, next_attempt=NOW))

        await asyncio.gather(*(work(queue) for queue in (one, two) * 4))
        assert seen == Counter(f"{number:03} {fence}" for number in range(120) for fence in (1, 2))
        assert await one.counts() == {}


async def test_leases_end_and_can_be_held_longer(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    async with open_queue(path, "one") as one, open_queue(path, "two") as two:
        await one.add(new(new_message("a")), new(new_message("b")))
        await one.claim(["support"], 1, NOW, "sending")
        mine = await two.claim(["support"], 1, NOW, "sending")
        end = NOW + timedelta(seconds=900)

        async def expired(moment_seconds: int) -> list[str]:
            later = two.take_back(end + moment_seconds * SECOND, only_expired=True)
            return [message.id async for message, _ in later]

        assert await expired(-1) == []
        one._clock = lambda: NOW + MINUTE
        await one.renew_leases()
        assert await expired(59) == []
        assert await expired(60) == ["a"]
        assert [message.id for message in mine] == ["b"]
        assert [message.id async for message, _ in two.take_back(end + 9 * MINUTE)] == []


async def test_nothing_is_taken_from_who_may_live_beside_us(place: StorePlace) -> None:
    owners = ("run_%/0/1", "run_%/1/1", "run_%/2/1", "runxx/1/1", "earlier")
    for number, owner in enumerate(owners):
        async with open_queue(place, owner) as queue:
            await queue.add(new(new_message(f"{number}")))
            await queue.claim(["support"], 1, NOW, "sending")
    async with open_queue(place, "run_%/1/2") as second:
        second._living = Living("run_%/", "run_%/1/")
        taken = [message.id async for message, _ in second.take_back(NOW)]
        assert sorted(taken) == ["1", "3", "4"], "what the one before had, and what no worker of this run has"


async def test_many_messages_are_taken_back_a_few_at_a_time(place: StorePlace) -> None:
    async with open_queue(place, "one") as one, open_queue(place, "two") as two:
        await one.add(*(new(new_message(f"{number:03}"), attempt=attempt()) for number in range(130)))
        taken = []
        async for message, begun in two.take_back(NOW):
            assert begun == attempt()
            await two.settle(settlement(message))
            taken.append(message.id)
        assert sorted(taken) == [f"{number:03}" for number in range(130)]
        assert await two.counts() == {"queued": 130}


SENDS_AND_IS_KILLED = """
import asyncio, os, signal, sys
from tests.unit.store.store_kit import NOW, attempt, new, new_message, open_queue, place_of

async def main():
    async with open_queue(place_of(sys.argv[1]), "killed run") as queue:
        await queue.add(*(new(new_message(id_)) for id_ in ("a", "b", "c", "d")))
        await queue.add(new(new_message("e"), attempt=attempt(1, phase="content")))
        await queue.record([])
        for id_ in ("a", "b", "c"):
            message = await queue.claim_one(id_, "sending")
            if id_ != "a":
                await queue.begin_attempt(id_, message.fence, attempt(1))
            if id_ == "c":
                await queue.mark_final_dot(id_, message.fence, 1)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.fixture
def killed(place: StorePlace) -> StorePlace:
    """The store of a run that was killed with messages under way."""
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", SENDS_AND_IS_KILLED, name_of(place)]
    done = subprocess.run(command, check=False, timeout=60, env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == -signal.SIGKILL
    return place


async def test_what_a_killed_run_left_under_way_is_taken_back(killed: StorePlace) -> None:
    async with open_queue(killed, "next run") as queue:
        assert [message.id for message in await queue.claim(["support"], 9, NOW, "sending")] == ["d"]
        taken = {message.id: (message.fence, begun) async for message, begun in queue.take_back(NOW)}
        assert taken == {
            "a": (2, None),
            "b": (2, attempt(1)),
            "c": (2, attempt(1, final_dot=True)),
            "e": (1, attempt(1, phase="content")),
        }
        assert [each async for each in queue.take_back(NOW)] == []
        for id_ in taken:
            message = await queue.message(id_)
            assert message is not None
            await queue.settle(settlement(message))
            assert await queue.content(id_) == CONTENT
        assert await queue.counts() == {"queued": 4, "sending": 1}
