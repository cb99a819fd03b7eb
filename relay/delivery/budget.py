"""How many recipients an account may still send to today: a budget over a rolling day, counted in ten minutes. Pure.

What a piece of ten minutes holds is free again a day after its end, never earlier: the provider counts to the second,
and we are on the safe side by less than one percent of a day. Times are seconds since 1970.
"""

from collections.abc import Iterable, Iterator, Mapping

DAY = 86400
PIECE = 600


class Budget:
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


def room(budgets: Iterable[Budget], limit: int, now: float) -> int:
    """Return how many recipients accounts that share a limit may still send to now."""
    return max(0, limit - sum(count for budget in budgets for _, count in budget.pieces(now)))


def room_at(budgets: Iterable[Budget], limit: int, now: float) -> float:
    """Return when they may send to at least one: now or later."""
    pieces = sorted(piece for budget in budgets for piece in budget.pieces(now))
    spent = sum(count for _, count in pieces)
    moment = now
    for moment_free, count in pieces:
        if spent < limit:
            break
        spent, moment = spent - count, moment_free
    return moment
