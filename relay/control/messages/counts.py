"""The operation that counts messages over time, for charts."""

from asyncio import to_thread
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Literal

from relay.control.context import Parts
from relay.control.messages.page_position import read_time
from relay.control.messages.records import rfc3339
from relay.control.messages.results import CountRecord
from relay.control.operation import Operation
from relay.control.refused import Refused
from relay.delivery.lifecycle import State
from relay.store.queue.statistics import Counted

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMED = (State.DELIVERED, State.FAILED, State.QUEUED, State.HELD)
# As many points as a wide chart has, and a week of five minutes.
_MOST_STEPS = 2500


class MessageCounts:
    """`messages.counts`: the messages that came in each step of a time, by the state in which they are now."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"messages.counts": Operation(self.counts)}

    async def counts(
        self, *, since: str | None = None, until: str | None = None, step: Literal[300, 3600, 86400] = 3600
    ) -> list[CountRecord]:
        """Return how many messages came in every step, the first one first, without a gap.

        Steps are whole: the first is the one that `since` is in (24 hours ago where it is left out), the last the one
        before `until` (now). Days are those of UTC. `other` is what is under way, unknown or removed.
        """
        width = timedelta(seconds=step)
        try:
            end = read_time(until, "until") or datetime.now(UTC)
            moments = _moments(read_time(since, "since") or end - _DAY, end, width)
            behind = moments[-1] + width
        except OverflowError:
            raise Refused("this is at an end of the calendar; choose a time between", key="since") from None
        states = [str(state) for state in State]
        found = await self._parts.queue.counts_over_time(states, moments[0], behind, width)
        return await to_thread(_filled, found, moments)


def _moments(begin: datetime, end: datetime, width: timedelta) -> list[datetime]:
    """Return where each step begins. Raises Refused where there is none or very many, and OverflowError."""
    first = _EPOCH + (begin - _EPOCH) // width * width
    number = -((first - end) // width)
    if number < 1:
        raise Refused("since is not before until", key="since")
    if number > _MOST_STEPS:
        raise Refused(
            f"{number:,} steps are more than {_MOST_STEPS:,}; choose a larger step or a later since", key="step"
        )
    return [first + index * width for index in range(number)]


def _filled(found: list[Counted], moments: list[datetime]) -> list[CountRecord]:
    """Return every moment, with 0 where nothing was counted."""
    named = {str(state) for state in _NAMED}
    numbers: dict[tuple[datetime, str], int] = defaultdict(int)
    for one in found:
        numbers[one.at, one.state if one.state in named else "other"] += one.number
    return [
        CountRecord(
            at=rfc3339(at),
            delivered=numbers[at, State.DELIVERED],
            failed=numbers[at, State.FAILED],
            queued=numbers[at, State.QUEUED],
            held=numbers[at, State.HELD],
            other=numbers[at, "other"],
        )
        for at in moments
    ]
