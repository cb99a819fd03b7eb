"""The fair queue: each profile has its turn, in the order of a count that is made by hand."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from relay.limits.fair_queue import FairQueue

PROFILES = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=40)


def served_by_hand(joined: list[str | None]) -> list[int]:
    """Go round the profiles in the order in which they came, one message of each, until none is left."""
    rounds: dict[str | None, list[int]] = {}
    for number, profile in enumerate(joined):
        rounds.setdefault(profile, []).append(number)
    served: list[int] = []
    while any(rounds.values()):
        served += [numbers.pop(0) for numbers in rounds.values() if numbers]
    return served


@given(PROFILES)
def test_each_profile_has_one_turn_before_any_has_another(joined: list[str | None]) -> None:
    async def serve() -> list[int]:
        queue, places = FairQueue[str](), dict[asyncio.Future[str | None], int]()
        for number, profile in enumerate(joined):
            places[queue.join(profile)] = number
        assert len(queue) == len(joined)
        served = []
        while (place := queue.next()) is not None:
            served.append(places[place])
        assert queue.is_empty
        return served

    assert asyncio.run(serve()) == served_by_hand(joined)


@given(PROFILES, st.sampled_from(["a", "b", "c", None]))
def test_so_many_are_served_before_one_that_joins_as_was_said(joined: list[str | None], profile: str | None) -> None:
    async def serve() -> tuple[int, int]:
        queue = FairQueue[str]()
        for each in joined:
            queue.join(each)
        said, mine, before = queue.ahead_of(profile), queue.join(profile), 0
        while queue.next() is not mine:
            before += 1
        return said, before

    said, before = asyncio.run(serve())
    # A profile that has just had its turn stands behind the others of the round, one that waits may stand before them.
    assert before <= said <= before + len(set(joined))


@given(PROFILES, st.sets(st.integers(0, 39)))
def test_who_leaves_is_never_served_and_delays_nobody(joined: list[str | None], leaving: set[int]) -> None:
    async def serve() -> list[int]:
        queue = FairQueue[str]()
        places = [queue.join(profile) for profile in joined]
        for number in leaving & set(range(len(joined))):
            queue.leave(joined[number], places[number])
        served = []
        while (place := queue.next()) is not None:
            served.append(places.index(place))
        return served

    served = asyncio.run(serve())
    assert sorted(served) == sorted(set(range(len(joined))) - leaving)
    for profile in set(joined):
        own = [number for number in served if joined[number] == profile]
        assert own == sorted(own)
