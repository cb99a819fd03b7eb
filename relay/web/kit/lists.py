"""A list as a page shows it: sorted by a column, filtered by a text, a part at a time, with the columns one wants.

What is shown stands in the address of the page, so that it can be kept, sent and gone back to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

PART = 50


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
