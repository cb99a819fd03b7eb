"""Texts that a page shows a plan of, kept until somebody confirms it.

They are kept here and not in the page, because a table may have passwords in it, which no page shows. In memory, for a
while and within bounds: after a restart somebody chooses the file once more.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_urlsafe

_SECONDS = 30 * 60
_MOST_CHARACTERS = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Kept:
    owner: str = field(repr=False)
    text: str = field(repr=False)
    until: float


class KeptTexts:
    """Texts by random names, each for the one who brought it alone; the oldest go first where there are too many."""

    def __init__(self, most: int = _MOST_CHARACTERS, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._now = clock
        self._texts: dict[str, _Kept] = {}

    def keep(self, owner: str, text: str) -> str:
        """Keep a text of somebody, and return its name."""
        now = self._now()
        self._texts = {name: one for name, one in self._texts.items() if one.until > now}
        name = token_urlsafe(16)
        self._texts[name] = _Kept(owner, text, now + _SECONDS)
        while sum(len(one.text) for one in self._texts.values()) > self._most and len(self._texts) > 1:
            del self._texts[next(iter(self._texts))]
        return name

    def get(self, owner: str, name: str) -> str | None:
        """Return a text that the same one brought; None where it is no longer kept."""
        found = self._texts.get(name)
        return found.text if found is not None and found.owner == owner and found.until > self._now() else None

    def forget(self, name: str) -> None:
        """Forget a text, if it is there."""
        self._texts.pop(name, None)
