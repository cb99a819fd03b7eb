"""A bound of time: what must not take longer, by the clock or by the processor."""

from collections.abc import Callable
from dataclasses import dataclass

TRIES = 3


@dataclass(frozen=True, slots=True)
class Bound:
    """Something that is measured, and the most seconds that it may take. What a relay does it does each time: so of
    several tries the least counts, and bad moments of the machine break nothing."""

    what: str
    most: float
    measure: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found; the first value that is within the bound is the last."""

    what: str
    most: float
    values: tuple[float, ...]

    @property
    def is_kept(self) -> bool:
        """Whether one of the tries was within the bound."""
        return min(self.values) < self.most


def measured(bound: Bound) -> Measured:
    """Measure until it is within the bound, thrice at most."""
    values: list[float] = []
    while len(values) < TRIES and not (values and values[-1] < bound.most):
        values.append(bound.measure())
    return Measured(bound.what, bound.most, tuple(values))
