"""Lists on pages: sorted, filtered, searched, a part at a time, with the columns that somebody wants to see.

What is shown stands in the address of the page, so that it can be kept, sent and gone back to. The columns are chosen
on the list's page, and remembered by the browser.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.routing import Route

from relay.web.kit.forms import Choice
from relay.web.kit.page_request import STAFF, PageRequest, cookie_of, local_path, page
from relay.web.kit.site import Site

PART = 50
_YEAR = 365 * 24 * 3600
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
class Column:
    """One column: the key of the record that it shows, and its heading. `is_optional`: the column chooser has it."""

    key: str
    title: str
    is_optional: bool = False
    can_sort: bool = True


@dataclass(frozen=True, slots=True)
class Listing:
    """What the address of a list says. `others` are its filters; they stay when one sorts or turns the page."""

    path: str
    sort: str
    descending: bool
    contains: str
    start: int
    others: Mapping[str, str]

    @classmethod
    def of(
        cls, path: str, query: Mapping[str, str], columns: Sequence[Column], filters: Sequence[str] = ()
    ) -> "Listing":
        """Read an address; what makes no sense there is taken as if it were not said."""
        given = query.get("sort", "")
        wanted = given.removeprefix("-")
        is_known = any(column.key == wanted and column.can_sort for column in columns)
        start = query.get("start", "")
        return cls(
            path=path,
            sort=wanted if is_known else columns[0].key,
            descending=is_known and given.startswith("-"),
            contains=query.get("q", "").strip(),
            start=int(start) if start.isdecimal() and len(start) < 9 else 0,
            others={key: query[key].strip() for key in filters if query.get(key, "").strip()},
        )

    @property
    def asked(self) -> dict[str, Any]:
        """The parameters of a `page` operation."""
        return {
            "sort": self.sort,
            "descending": self.descending,
            "contains": self.contains,
            "start": self.start,
            "limit": PART,
        }

    def url(self, **changes: Any) -> str:
        """Return the address of this list with some of it changed."""
        sort = f"-{self.sort}" if self.descending else self.sort
        said = {"q": self.contains, **self.others, "sort": sort, "start": self.start, **changes}
        query = urlencode({key: value for key, value in said.items() if value not in ("", 0, None)})
        return f"{self.path}?{query}" if query else self.path

    def sorted_url(self, column: Column) -> str:
        """Return the address of this list sorted by a column, the other way round where it is already."""
        is_again = column.key == self.sort and not self.descending
        return self.url(sort=f"-{column.key}" if is_again else column.key, start=0)

    def direction(self, column: Column) -> str:
        """Return how a column is sorted, in the words of aria-sort."""
        if column.key != self.sort:
            return "none"
        return "descending" if self.descending else "ascending"

    def parts(self, total: int) -> Mapping[str, str]:
        """Return the addresses of the part before and behind this one, by "previous" and "next"."""
        found = {}
        if self.start > 0:
            last = (total - 1) // PART * PART
            found["previous"] = self.url(start=max(min(self.start - PART, last), 0))
        if self.start + PART < total:
            found["next"] = self.url(start=self.start + PART)
        return found


def columns_route(site: Site, path: str, columns: Sequence[Column]) -> Route:
    """Return the route that remembers the columns of the list at `path`."""

    async def remember(visit: PageRequest) -> Response:
        wanted = {value for value in visit.form.getlist("column") if isinstance(value, str)}
        chosen = [column.key for column in columns if column.is_optional and column.key in wanted]
        back = local_path(visit.text("back"))
        response = visit.redirect(back if back.partition("?")[0] == path else path)
        response.set_cookie(
            _cookie(path),
            ".".join(chosen) or "-",
            max_age=_YEAR,
            httponly=True,
            samesite="lax",
            secure=site.is_secure,
        )
        return response

    return page(f"{path}/-/columns", site, post=remember, posters=STAFF)


def chosen_columns(
    visit: PageRequest, path: str, columns: Sequence[Column], at_first: Sequence[str]
) -> Sequence[Column]:
    """Return the columns to show: those that always are, and of the others those that were chosen.

    SECURITY: a cookie is what anybody wrote; what it says counts only as far as it names columns.
    """
    said = cookie_of(visit.request, _cookie(path))
    wanted = set(at_first if said is None else said.split("."))
    return [column for column in columns if not column.is_optional or column.key in wanted]


def _cookie(path: str) -> str:
    return f"relay-columns-{path.strip('/')}"


@dataclass(frozen=True, slots=True)
class Search:
    """What an address asks of a list. `words` are its parameters that say something; `at` is the place in the list."""

    path: str
    words: Mapping[str, str]
    at: str

    @classmethod
    def of(cls, path: str, query: Mapping[str, str], keys: Sequence[str]) -> "Search":
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
