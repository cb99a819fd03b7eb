"""Who else sends for the same accounts, as far as it matters for what each may do."""

from dataclasses import dataclass
from typing import Protocol


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
