"""How several processes keep the rate limit of an account while the store is away: each has a part of it. Pure.

Law: at any moment all messages of a minute, those that the store knows of and those that it will hear of later, are
within the limit. The parts are agreed on in the store before, and together are no more than the limit. Who was not
heard of in the store for `KEPT_BACK_SECONDS` may be using its part: the others leave that free. So it uses the part a
little later (`AWAY_SECONDS`); and of what it had begun before, it goes on with as much as leaves the minute. Who is
alone at the store has all of it, at once.
"""

from collections.abc import Sequence

from relay.limits import constants
from relay.limits.rate import RateLimit, shared_window


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
