"""How many recipients an account may still send to today: a quota over a rolling day, counted in ten minutes. Pure.

Law: no stretch of a day holds more recipients than the limit, however it is laid. What a piece of ten minutes holds is
free again a day after its end, never earlier: the provider counts to the second, and we are on the safe side by less
than one percent of a day. Times are seconds since 1970.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from relay.limits.constants import DAY, DAY_AHEAD_SECONDS, PIECE
from relay.limits.rows import Row, Taken

# Of how many seconds the rows of a store are looked at.
SEEN_DAY_SECONDS = DAY + PIECE + 1.0


@dataclass(frozen=True, slots=True)
class Purchase(Taken):
    """`spent`: what all have used before."""

    spent: Sequence[Row] = ()


class DayQuota:
    """What one account has spent. `pieces`: what an earlier run kept, by the beginning of each ten minutes."""

    def __init__(self, pieces: Mapping[int, int] | None = None) -> None:
        self._pieces = dict(pieces or {})

    def spend(self, now: float, count: int) -> int:
        """Count some recipients, and return the piece that they are in; a negative count gives some back."""
        piece = int(now) // PIECE * PIECE
        self.correct(piece, count)
        return piece

    def correct(self, piece: int, count: int) -> None:
        """Change what a piece holds."""
        self._pieces[piece] = self._pieces.get(piece, 0) + count

    def pieces(self, now: float) -> Iterator[tuple[float, int]]:
        """Yield what counts now: when it is free again, and how many. Forgets what is free."""
        for piece in [piece for piece in self._pieces if free_at(piece) <= now]:
            del self._pieces[piece]
        # A clock that was set back leaves pieces in the future; they count no longer than those of now.
        yield from ((min(free_at(piece), now + DAY + PIECE), count) for piece, count in self._pieces.items())


def free_at(piece: int) -> int:
    """Return when what was spent in a piece may be spent again."""
    return piece + PIECE + DAY


def room(quotas: Iterable[DayQuota], limit: int, now: float) -> int:
    """Return how many recipients accounts that share a limit may still send to now."""
    return max(0, limit - sum(count for quota in quotas for _, count in quota.pieces(now)))


def room_at(quotas: Iterable[DayQuota], limit: int, now: float) -> float:
    """Return when they may send to at least one: now or later."""
    pieces = sorted(piece for quota in quotas for piece in quota.pieces(now))
    spent = sum(count for _, count in pieces)
    moment = now
    for moment_free, count in pieces:
        if spent < limit:
            break
        spent, moment = spent - count, moment_free
    return moment


def buy(rows: Sequence[Row], now: datetime, *, per_day: int, wanted: int, at_least: int) -> Purchase:
    """Return how many recipients may be taken ahead of those that are `wanted`; none where `at_least` cannot be had.

    They count in a later piece, so that they may be used for some time.
    """
    left = room([DayQuota(pieces_of(rows))], per_day, now.timestamp())
    piece = int(now.timestamp()) // PIECE * PIECE + DAY_AHEAD_SECONDS
    return Purchase(min(wanted, left) if left >= at_least else 0, datetime.fromtimestamp(piece, UTC), rows)


def pieces_of(rows: Iterable[Row]) -> dict[int, int]:
    """Return what rows hold, by the piece of the day that they are in."""
    pieces: dict[int, int] = {}
    for since, count in rows:
        piece = int(since.timestamp()) // PIECE * PIECE
        pieces[piece] = pieces.get(piece, 0) + count
    return pieces
