"""How processes share what an account allows: a max-min fair share of its connections, and a part of its rate. Pure.

Connections: what all hold together is never more than the limit, nobody has less than another unless it wants no more,
and nothing is unused while somebody wants it. Each process decides about its own share, by what it sees of the others.
What it has goes down only when it uses less, and up only into what nobody has.

The outage share, while the store is away: at any moment all messages of a minute, those that the store knows of and
those that it will hear of later, are within the limit. The parts are agreed on in the store before, and together are no
more than the limit. Who was not heard of in the store for `KEPT_BACK_SECONDS` may be using its part: the others leave
that free. So it uses the part a little later (`AWAY_SECONDS`); and of what it had begun before, it goes on with as much
as leaves the minute. Who is alone at the store has all of it, at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from relay.limits import constants
from relay.limits.rate import RateLimit, shared_window


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one owner has, and how many it would use."""

    owner: str
    held: int
    wanted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a process has of a limit and would use. `granted` is what it may use now, `in_use` what it cannot let go.

    `most` is what it takes at first, where nobody else wants anything.
    """

    owner: str
    limit: int
    wanted: int
    granted: int
    in_use: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What it has from now on (`held`), and how much of that it may use.

    `lacks`: others have what it should have. `others_lack`: one of them has less than it should have.
    """

    held: int
    wanted: int
    granted: int
    lacks: bool = False
    others_lack: bool = False


# What a process has from now on, by what the others have at a moment.
Rule = Callable[[Sequence[Share], datetime], Grant]


def targets(wants: Mapping[str, int], limit: int, epoch: int) -> dict[str, int]:
    """Return how many each owner should have: nobody less than another, unless it wants no more ("max-min fair").

    What cannot be divided goes to some of them, and to others with the next epoch.
    """
    owners = sorted(owner for owner, want in wants.items() if want > 0)
    level = _level(sorted(wants[owner] for owner in owners), limit)
    given = {owner: min(wants[owner], level) for owner in owners}
    hungry = [owner for owner in owners if given[owner] < wants[owner]]
    for number in range(min(limit - sum(given.values()), len(hungry))):
        given[hungry[(epoch + number) % len(hungry)]] += 1
    return {owner: given.get(owner, 0) for owner in wants}


def decide(ask: Ask, others: Sequence[Share], epoch: int) -> Grant:
    """Return what a process has from now on, by what it sees of the others.

    It may still open what it was granted before, until it has read this: so that much stays its own, and a second look
    lets it go.
    """
    wanted = min(ask.wanted, ask.limit)
    fair = targets({ask.owner: wanted, **{each.owner: each.wanted for each in others}}, ask.limit, epoch)
    mine, has = fair[ask.owner], max(ask.granted, ask.in_use)
    free = ask.limit - sum(each.held for each in others)
    lack = sum(max(0, fair[each.owner] - each.held) for each in others)
    # What is there for the others without us giving up any need not be taken from us.
    goal = mine if lack > free - has else max(ask.granted, min(mine, ask.most))
    # Where the limit was lowered, all have too much together: then each keeps its part.
    granted = max(0, min(goal, max(free, min(ask.granted, mine))))
    return Grant(
        held=max(granted, has), wanted=wanted, granted=granted, lacks=goal > max(free, granted), others_lack=lack > 0
    )


def _level(wants: Sequence[int], limit: int) -> int:
    """Return how many each can have of those that want as many; `wants` is sorted."""
    left = limit
    for number, want in enumerate(wants):
        level = left // (len(wants) - number)
        if want > level:
            return level
        left -= want
    return limit


def part(limit: int, others: Sequence[int]) -> int:
    """Return the part of one process, where the others have these: as much as any, and no more than they leave."""
    fair = max(1, limit // (len(others) + 1))
    return max(0, min(fair, limit - sum(others)))


def is_away(began: float, ended: float, now: float, lease: float) -> bool:
    """Whether a process may use its parts, whose last word in the store `began` and `ended` then."""
    return now - ended >= constants.AWAY_SECONDS and now - began < constants.USED_PART * lease


def limit_of(held: int, own: Sequence[float], now: float, *, is_alone: bool = False) -> RateLimit:
    """Return the rate limit of a part from now on. `own`: when this process began messages that the store knows of.

    A part of which less was in use counts as used now: so much may others have begun in its place.
    """
    recent = [at for at in own if at > now - shared_window()]
    others = 0 if is_alone else held - len(recent)
    return RateLimit(held, [*recent, *[now] * others], window=shared_window())


class Others(Protocol):
    """All processes that use the store (`relay.cluster.membership`)."""

    @property
    def processes(self) -> int:
        """How many hand over mail, this one included."""

    @property
    def is_alone(self) -> bool:
        """Whether there is no other node that may have connections open."""


@dataclass(frozen=True, slots=True)
class OneMachine:
    """There are so many processes, all of this machine."""

    processes: int = 1
    is_alone: bool = True
