"""What a search of a page asks: parameters of its address, and times as people pick them.

What is asked stands in the address of the page, so that it can be kept, sent and gone back to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

from relay.web.kit.forms import Choice

# Days back from now; "today" begins at midnight.
_SPANS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
SPANS: Sequence[Choice] = (
    Choice("", "Any time"),
    Choice("1h", "Last hour"),
    Choice("24h", "Last 24 hours"),
    Choice("7d", "Last 7 days"),
    Choice("30d", "Last 30 days"),
)
_TIMES = ("time", "from", "until")


@dataclass(frozen=True, slots=True)
class Asking:
    """What an address asks of a list. `words` are its parameters that say something; `at` is the place in the list."""

    path: str
    words: Mapping[str, str]
    at: str

    @classmethod
    def of(cls, path: str, query: Mapping[str, str], keys: Sequence[str]) -> "Asking":
        """Read an address with these parameters beside the text `q` and those of time."""
        known = ("q", *keys, *_TIMES)
        words = {key: text for key in known if (text := query.get(key, "").strip())}
        return cls(path, words, query.get("at", ""))

    def __getitem__(self, key: str) -> str:
        """Return what was asked by a parameter, "" for nothing."""
        return self.words.get(key, "")

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked, so that all is shown."""
        return not self.words

    def has_any(self, keys: Sequence[str]) -> bool:
        """Whether one of these was asked."""
        return any(key in self.words for key in keys)

    def url(self, at: str | int | None = None) -> str:
        """Return the address of this list at a place."""
        query = urlencode({**self.words, **({"at": at} if at else {})})
        return f"{self.path}?{query}" if query else self.path

    def times(self, now: datetime | None = None) -> dict[str, str]:
        """Return `since` and `until` of an operation. Days are those of UTC, the last one included.

        A day that is none is taken as not said. A quick choice counts where no day is.
        """
        since, until = _day(self["from"]), _day(self["until"])
        if since is None and until is None and self["time"] in _SPANS:
            return {"since": _word((now or datetime.now(UTC)) - _SPANS[self["time"]])}
        found = {}
        if since is not None:
            found["since"] = _word(since)
        if until is not None:
            found["until"] = _word(until + timedelta(days=1))
        return found


def _day(text: str) -> datetime | None:
    try:
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC) if 1 < day.year < 9999 else None
    except ValueError:
        return None


def _word(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
