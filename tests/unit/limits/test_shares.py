"""How a limit is divided: nothing unused that is wanted, nobody less than another, the same answer for everybody."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.limits.shares import Ask, Grant, Share, decide, targets

WANTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 60), max_size=8)
LIMITS = st.integers(1, 50)
EPOCHS = st.integers(0, 1000)


@given(WANTS, LIMITS, EPOCHS)
def test_all_that_is_wanted_and_allowed_is_given(wants: Mapping[str, int], limit: int, epoch: int) -> None:
    given_ = targets(wants, limit, epoch)
    assert given_.keys() == wants.keys()
    assert all(0 <= given_[owner] <= wants[owner] for owner in wants)
    assert sum(given_.values()) == min(limit, sum(wants.values()))


@given(WANTS, LIMITS, EPOCHS)
def test_nobody_has_more_than_one_above_who_wants_more(wants: Mapping[str, int], limit: int, epoch: int) -> None:
    given_ = targets(wants, limit, epoch)
    hungry = [given_[owner] for owner in wants if given_[owner] < wants[owner]]
    assert not hungry or max(given_.values()) <= min(hungry) + 1


@given(WANTS, LIMITS)
def test_what_cannot_be_divided_goes_round(wants: Mapping[str, int], limit: int) -> None:
    total, epochs = dict.fromkeys(wants, 0), 840  # a multiple of every number of owners
    for epoch in range(epochs):
        for owner, count in targets(wants, limit, epoch).items():
            total[owner] += count
    assert len({count for owner, count in total.items() if count < epochs * wants[owner]}) <= 1


def ask(**facts: int) -> Ask:
    usual = {"limit": 10, "wanted": 0, "granted": 0, "in_use": 0, "most": 10}
    return Ask(owner="me", **{**usual, **facts})


def other(held: int, wanted: int) -> Share:
    return Share(owner="other", held=held, wanted=wanted)


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        # Alone: what it wants, at first no more than its part.
        (ask(wanted=4), [], Grant(held=4, wanted=4, granted=4)),
        (ask(wanted=8, most=5), [], Grant(held=5, wanted=8, granted=5)),
        (ask(wanted=30), [], Grant(held=10, wanted=10, granted=10)),
        # What it has it keeps, while nobody lacks it.
        (ask(granted=6, in_use=2), [other(4, 4)], Grant(held=6, wanted=0, granted=6)),
        (ask(granted=6), [other(1, 3)], Grant(held=6, wanted=0, granted=6, others_lack=True)),
        # What others lack it lets go, and has it until it has read that.
        (ask(granted=10, in_use=8), [other(0, 3)], Grant(held=10, wanted=0, granted=0, others_lack=True)),
        (ask(wanted=10, granted=10), [other(0, 9)], Grant(held=10, wanted=10, granted=5, others_lack=True)),
        (ask(wanted=10, granted=5, in_use=7), [other(0, 9)], Grant(held=7, wanted=10, granted=5, others_lack=True)),
        # It takes what nobody has, and says when that is less than its part.
        (ask(wanted=9), [other(10, 10)], Grant(held=0, wanted=9, granted=0, lacks=True)),
        (ask(wanted=9, granted=2), [other(7, 9)], Grant(held=3, wanted=9, granted=3, lacks=True)),
        # A limit that was lowered: each keeps its part.
        (ask(limit=4, wanted=4, granted=5, in_use=5), [other(5, 4)], Grant(held=5, wanted=4, granted=2)),
        (ask(limit=4, granted=5, in_use=0), [other(5, 4)], Grant(held=5, wanted=0, granted=0)),
    ],
)
def test_what_a_process_makes_of_what_it_sees(mine: Ask, theirs: list[Share], expected: Grant) -> None:
    assert decide(mine, theirs, 0) == expected


@given(
    st.integers(0, 60), st.integers(0, 50), st.integers(0, 50), WANTS, st.dictionaries(st.sampled_from("abcdefgh"),
    st.integers(0, 20)), LIMITS, EPOCHS,
)  # fmt: skip
def test_together_they_never_have_more_than_the_limit(
    wanted: int, granted: int, in_use: int, wants: Mapping[str, int], held: Mapping[str, int], limit: int, epoch: int
) -> None:
    others = [Share(owner=owner, held=held.get(owner, 0), wanted=want) for owner, want in wants.items()]
    theirs = sum(each.held for each in others)
    mine = Ask(owner="me", limit=limit, wanted=wanted, granted=granted, in_use=in_use, most=limit)
    grant = decide(mine, others, epoch)
    has = max(granted, in_use)
    assert grant.held >= max(grant.granted, has)  # nothing that may be open is anybody else's
    assert grant.held <= max(has, limit - theirs)


@given(WANTS, LIMITS, EPOCHS)
def test_the_shares_are_those_of_giving_one_connection_at_a_time(
    wants: Mapping[str, int], limit: int, epoch: int
) -> None:
    """By hand: the next connection always goes to one that has the least and wants more. So the sorted shares agree."""
    by_hand = dict.fromkeys(wants, 0)
    for _ in range(limit):
        hungry = [owner for owner in wants if by_hand[owner] < wants[owner]]
        if hungry:
            by_hand[min(hungry, key=lambda owner: by_hand[owner])] += 1
    assert sorted(targets(wants, limit, epoch).values()) == sorted(by_hand.values())
