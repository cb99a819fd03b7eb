"""Who is told of what, and when: one message for one trouble, again after a day, one when it is over, never a storm."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from relay.alerts.digest import Digest, Memory, Trouble, rows_of
from relay.store.queue.troubles import ToldTrouble
from tests.unit.store.store_kit import NOW

STEP = timedelta(seconds=30)


def trouble(key: str, stage: str = "") -> Trouble:
    return Trouble(kind="account-held", key=key, title=f"account {key} is held", group="accounts", stage=stage)


class World:
    """One recipient, as the watch has it: what was told is kept, and what is forgotten by a start is."""

    def __init__(self) -> None:
        self.now: datetime = NOW
        self.memory = Memory()
        self.told: dict[str, ToldTrouble] = {}
        self.sent: list[tuple[timedelta, Digest]] = []

    def go(self, how_long: timedelta, *troubles: Trouble) -> list[Digest]:
        """Look each half minute for so long; return what is told meanwhile."""
        before, end = len(self.sent), self.now + how_long
        while self.now < end:
            self.look(troubles)
            self.now += STEP
        return [digest for _, digest in self.sent[before:]]

    def look(self, troubles: Sequence[Trouble]) -> None:
        digest = self.memory.look(troubles, self.told, self.now)
        if digest.is_empty:
            return
        self.sent.append((self.now - NOW, digest))
        for row in rows_of("ops", digest, self.told, self.now):
            self.told[row.key] = row
        for one in digest.over:
            del self.told[one.key]
        self.memory.note(self.now)


def keys(digest: Digest) -> tuple[list[str], list[str], list[str]]:
    return [t.key for t in digest.new], [t.key for t in digest.still], [t.key for t in digest.over]


def test_one_message_for_one_trouble_again_after_a_day_and_one_when_it_is_over() -> None:
    world = World()
    assert [keys(one) for one in world.go(timedelta(hours=23), trouble("a"))] == [(["a"], [], [])]
    assert [keys(one) for one in world.go(timedelta(hours=2), trouble("a"))] == [([], ["a"], [])]
    assert [keys(one) for one in world.go(timedelta(hours=2))] == [([], [], ["a"])]
    assert world.go(timedelta(days=3)) == []


def test_what_comes_and_goes_at_once_is_told_to_nobody() -> None:
    world = World()
    assert world.go(STEP, trouble("a")) == []
    assert world.go(timedelta(hours=1)) == []
    (first,) = world.go(timedelta(minutes=10), trouble("a"))
    assert keys(first) == (["a"], [], [])
    assert world.go(timedelta(minutes=1)) == [], "away for a moment"
    assert world.go(timedelta(hours=1), trouble("a")) == []


def test_a_start_tells_nobody_again() -> None:
    world = World()
    world.go(timedelta(hours=1), trouble("a"), trouble("b"))
    world.memory = Memory()
    assert world.go(timedelta(hours=5), trouble("a"), trouble("b")) == []
    world.memory = Memory()
    assert [keys(one) for one in world.go(timedelta(hours=1), trouble("a"))] == [([], [], ["b"])]


def test_a_thousand_at_once_are_few_messages() -> None:
    world = World()
    many = [trouble(f"a{number}") for number in range(1000)]
    for number in range(0, 1000, 50):  # they come one after the other, over ten minutes
        world.go(STEP, *many[: number + 50])
    world.go(timedelta(hours=3), *many)
    told = [len(digest.new) for _, digest in world.sent]
    assert sum(told) == 1000
    assert len(told) <= 3
    world.go(timedelta(hours=3))
    assert len(world.sent) <= 4, "and one when they are over"


def test_where_each_message_brings_something_new_the_pauses_grow_to_an_hour() -> None:
    world = World()
    count = int(timedelta(hours=6) / STEP)
    for number in range(count):
        world.go(STEP, *(trouble(f"a{one}") for one in range(number + 1)))
    assert 6 <= len(world.sent) <= 10
    pauses = [later - before for (before, _), (later, _) in zip(world.sent, world.sent[1:], strict=False)]
    assert min(pauses) >= timedelta(minutes=5)


def test_another_stage_is_told_anew() -> None:
    world = World()
    world.go(timedelta(hours=1), trouble("c", "14 days"))
    (digest,) = world.go(timedelta(hours=1), trouble("c", "7 days"))
    assert keys(digest) == (["c"], [], [])
    assert world.told["c"].since < world.told["c"].told


def test_what_is_due_soon_is_told_along() -> None:
    world = World()
    world.go(timedelta(hours=3), trouble("a"))
    world.go(timedelta(hours=20, minutes=59), trouble("a"), trouble("b"))
    found = world.go(timedelta(hours=2), trouble("a"), trouble("b"))
    assert [keys(one) for one in found] == [([], ["a", "b"], [])]
