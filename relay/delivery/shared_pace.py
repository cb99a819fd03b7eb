"""What may begin or be sent now, by what all processes have written of an account in the store. Pure.

The rules are those of `relay.delivery.pace` and `relay.delivery.budget`. Here what counts comes from the store each
time, and a message counts there from the moment when it was let go. While it has not begun its row is moved on, more
than once a second; the window is longer by that, so that also what a process had under way when it died counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from relay.delivery.budget import DAY, PIECE, Budget, room
from relay.delivery.pace import Pace, minute

# MAIL takes different times to reach the server, and a row may be older than the message that it stands for: a second
# each.
_GUARD = 2.0
# A burst takes four seconds to be made up for: what is that much older still says how far we are ahead.
_SEEN_BEFORE = 5.0
SEEN_DAY_SECONDS = DAY + PIECE + 1.0
# How many seconds' worth of an account's messages one process takes at once.
_AT_ONCE_SECONDS = 0.1
# How soon is looked again where all of an account's pace is kept back for others.
_LEFT_FREE_SECONDS = 2.0

Row = tuple[datetime, int]


@dataclass(frozen=True, slots=True)
class Begun:
    """So many may begin now, at the moment `since`, and one more at `next` (seconds since 1970)."""

    count: int
    since: datetime
    next: float


@dataclass(frozen=True, slots=True)
class Purchase:
    """So many recipients are taken, into the piece that begins at `since`; `spent` is what all have taken before."""

    count: int
    since: datetime
    spent: tuple[tuple[int, int], ...]


def window() -> float:
    """Return the stretch of time, in seconds, that holds no more than the limit."""
    return minute() + _GUARD


def seen_seconds() -> float:
    """Return of how many seconds the rows are looked at."""
    return window() + _SEEN_BEFORE


def begin(rows: Sequence[Row], now: datetime, *, per_minute: int, wanted: int, kept_back: int = 0) -> Begun:
    """Return how many of those that wait may begin now, and when the next may. `rows` are of `seen_seconds`.

    `kept_back` of the limit are left free, for processes that may go by them without the store.
    """
    if per_minute <= kept_back:
        return Begun(0, now, now.timestamp() + _LEFT_FREE_SECONDS)
    per_minute -= kept_back
    # In seconds from now: seconds since 1970 have no digits left for what adds up exactly.
    pace = replayed(per_minute, [at for since, count in rows for at in [_seconds(since, now)] * count])
    most, count = at_once(per_minute, wanted), 0
    while count < most and pace.next(0.0) <= 0.0:
        pace.let_go(0.0)
        pace.began(0.0)
        count += 1
    return Begun(count, now, now.timestamp() + pace.next(0.0))


def at_once(per_minute: int, wanted: int) -> int:
    """Return how many of those that wait one process lets go together, so that the others have their part."""
    return min(wanted, max(1, int(per_minute * _AT_ONCE_SECONDS / minute())))


def replayed(per_minute: int, begun: Sequence[float]) -> Pace:
    """Return the pace of messages that began so many seconds before now, the first one first, as negative numbers.

    What began later than now is of a clock that was set back.
    """
    pace = Pace(per_minute, window=window())
    known = [min(at, 0.0) for at in begun if at <= window()]
    if known and known[0] <= -window():
        for _ in range(pace.burst - 1):  # there may be more before, of which nobody told us
            pace.let_go(known[0])
            pace.take_off()
    for at in known:
        pace.let_go(at)
        pace.began(at)
    return pace


def buy(rows: Sequence[Row], now: datetime, *, per_day: int, wanted: int, at_least: int) -> Purchase:
    """Return how many recipients may be taken ahead of those that are `wanted`; none where `at_least` cannot be had."""
    pieces = pieces_of(rows)
    left = room([Budget(dict(pieces))], per_day, now.timestamp())
    piece = int(now.timestamp()) // PIECE * PIECE
    return Purchase(min(wanted, left) if left >= at_least else 0, datetime.fromtimestamp(piece, UTC), pieces)


def pieces_of(rows: Sequence[Row]) -> tuple[tuple[int, int], ...]:
    """Return what rows hold, by the piece of the day that they are in."""
    pieces: dict[int, int] = {}
    for since, count in rows:
        piece = int(since.timestamp()) // PIECE * PIECE
        pieces[piece] = pieces.get(piece, 0) + count
    return tuple(pieces.items())


def _seconds(since: datetime, now: datetime) -> float:
    """Return when a message began, at the latest: what one process alone wrote says only the second."""
    return (since - now).total_seconds() + (0.0 if since.microsecond else 1.0)
