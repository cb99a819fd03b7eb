"""When a message is tried again, warned about and given up: pure functions over the settings of [delivery]."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from relay.config.settings import Delivery

_SPREAD = 0.1  # each pause is spread by +-10 %, so that what failed together is not tried together


class Unknown(StrEnum):
    """What follows when a server gave no answer after our final dot."""

    RETRY = "retry"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The settings of [delivery] that say when; all in seconds."""

    retry: tuple[float, ...]
    warn_after: float
    give_up_after: float
    probe: tuple[float, ...]
    unknown: Unknown
    unknown_pause: float

    @classmethod
    def of(cls, delivery: Delivery) -> "Schedule":
        """Return the schedule that the settings say."""
        return cls(
            retry=delivery.retry,
            warn_after=delivery.warn_after,
            give_up_after=delivery.give_up_after,
            probe=delivery.probe,
            unknown=Unknown(delivery.unknown),
            unknown_pause=delivery.unknown_pause,
        )

    @property
    def longest(self) -> float:
        """In so many seconds, at the latest, whatever waits is tried again."""
        return max(*self.retry, self.unknown_pause, 0.0) * (1 + _SPREAD)

    def next_attempt(self, now: datetime, attempts: int, chance: float) -> datetime:
        """Return when to try again after `attempts` tries (1 or more); `chance` in 0..1 spreads it."""
        pause = step(self.retry, attempts - 1) * (1 - _SPREAD + 2 * _SPREAD * chance)
        return now + timedelta(seconds=pause)

    def next_probe(self, now: datetime, probes: int) -> datetime:
        """Return when a held account tries its login again after `probes` tries (0 or more)."""
        return now + timedelta(seconds=step(self.probe, probes))

    def next_mark(self, waited: float, *, is_warned: bool) -> float | None:
        """Return how long until a message that has waited so long is late or over: it is tried again by then.

        Without it a sender would be told of a delay only after the next pause, which is hours long by then.
        """
        marks = (self.give_up_after,) if is_warned else (self.warn_after, self.give_up_after)
        return min((mark - waited for mark in marks if mark > waited), default=None)

    def is_late(self, waited: float) -> bool:
        """Whether the sender is told of a delay after `waited` seconds, held time taken off."""
        return waited >= self.warn_after

    def is_over(self, waited: float) -> bool:
        """Whether a message is given up after `waited` seconds, held time taken off."""
        return waited >= self.give_up_after


def step(pauses: Sequence[float], number: int) -> float:
    """Return the pause of a step, counted from 0; the last repeats."""
    return pauses[min(number, len(pauses) - 1)]
