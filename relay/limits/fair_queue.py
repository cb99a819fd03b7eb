"""A queue that is fair between profiles. Pure but for the futures that it hands out.

Law: each profile that waits has one turn before any has another; first come, first served within a profile only. A
campaign of thousands from one sender so delays nobody else's message by more than one of its own.
"""

import asyncio
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Those who wait, by profile (None is nobody's)."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str | None, deque[asyncio.Future[T | None]]] = OrderedDict()

    def join(self, profile: str | None) -> asyncio.Future[T | None]:
        """Wait at the end of a profile's own queue; a permit comes with the turn, None where there will be none."""
        place: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(profile, deque()).append(place)
        return place

    def leave(self, profile: str | None, place: asyncio.Future[T | None]) -> None:
        """Give up a place that has not had its turn."""
        places = self._waiting.get(profile)
        if places is not None and place in places:
            places.remove(place)
            if not places:
                del self._waiting[profile]

    def next(self) -> asyncio.Future[T | None] | None:
        """Take out whose turn it is: each profile once, then again. None where nobody waits."""
        if not self._waiting:
            return None
        profile, places = self._waiting.popitem(last=False)
        place = places.popleft()
        if places:
            self._waiting[profile] = places
        return place

    def ahead_of(self, profile: str | None) -> int:
        """Return how many have their turn before one of this profile that would join now."""
        own = len(self._waiting.get(profile, ()))
        return sum(min(len(places), own + 1) if name != profile else own for name, places in self._waiting.items())

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting
