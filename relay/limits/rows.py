"""What the rules of a ledger look at and say: rows of what is used up, and what is taken. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

# So many messages or recipients, in the stretch of time that begins then.
Row = tuple[datetime, int]


@dataclass(frozen=True, slots=True)
class Taken:
    """So many are taken by a rule; they count in the stretch that begins at `since`. None where there is no room."""

    count: int
    since: datetime


T = TypeVar("T", bound=Taken)
# What is taken, by what is used up at a moment.
TakeRule = Callable[[Sequence[Row], datetime], T]
