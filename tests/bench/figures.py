"""From runs to figures: medians with their spread, ratios, and whether a goal is reached. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.loads import Goal, Measure
from tests.bench.rounds import Run


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the least and the most of the same figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of some values, at least one."""
        return cls(median(values), min(values), max(values))


def rate(run: Run) -> float:
    """Return messages a second, up to the last one at the upstream."""
    return run.messages / run.seconds


def cpu(run: Run) -> float:
    """Return the relay's processor milliseconds for each message."""
    return run.cpu / run.messages * 1000


def ends(run: Run) -> float:
    """Return the same for the source and the upstream together."""
    return run.ends / run.messages * 1000


def memory(run: Run) -> float:
    """Return the relay's memory at its most, in MiB."""
    return run.memory / 1024**2


def trips(run: Run) -> float:
    """Return how many round trips to the upstream a message took, where one session sends one after the other."""
    return run.seconds / run.messages / run.trip


_FIGURES: dict[Measure, Callable[[Run], float]] = {Measure.RATE: rate, Measure.CPU: cpu, Measure.TRIPS: trips}


def of(runs: Sequence[Run], load: str, relay: str) -> list[Run]:
    """Return the runs of one load through one relay, round by round."""
    return [run for run in runs if (run.load, run.relay) == (load, relay)]


def spread(runs: Sequence[Run], figure: Callable[[Run], float]) -> Spread | None:
    """Return the spread of a figure; None where there is no run."""
    return Spread.of([figure(run) for run in runs]) if runs else None


def ratio(ours: Sequence[Run], theirs: Sequence[Run], figure: Callable[[Run], float]) -> Spread | None:
    """Return the ratio of the medians, and the least and the most ratio of a round; None where it cannot be told.

    A processor time too short for the kernel's clock is none that can be divided by.
    """
    rounds = [figure(one) / figure(other) for one, other in zip(ours, theirs, strict=False) if figure(other)]
    below = median([figure(run) for run in theirs]) if theirs else 0
    if not rounds or not below:
        return None
    return Spread(median([figure(run) for run in ours]) / below, min(rounds), max(rounds))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of a goal; `value` is None where its loads did not run."""

    goal: Goal
    value: Spread | None

    @property
    def verdict(self) -> str:
        """Whether the median is as good as wanted, in words."""
        if self.value is None:
            return "not measured"
        median_ = self.value.median
        is_reached = median_ >= self.goal.bound if self.goal.is_least else median_ <= self.goal.bound
        return "reached" if is_reached else "not reached"


def judge(goal: Goal, runs: Sequence[Run]) -> Judgement:
    """Say what came of a goal."""
    figure = _FIGURES[goal.measure]
    ours = of(runs, goal.load, goal.relay)
    if not goal.against:
        return Judgement(goal, spread(ours, figure))
    return Judgement(goal, ratio(ours, of(runs, goal.other_load, goal.against), figure))
