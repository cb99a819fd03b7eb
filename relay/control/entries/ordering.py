"""Rows in the order of a column, as people read: without case, numbers by size, and what has no value at the end."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def in_order(rows: Iterable[T], value: Callable[[T], Any], *, descending: bool) -> list[T]:
    """Return rows sorted by a value; those that are equal stay in the order that they have.

    What has no value is at the end in both directions: a list is turned around to see the last of what is there.
    """
    filled: list[tuple[Any, T]] = []
    empty: list[T] = []
    for row in rows:
        found = value(row)
        if found is None or found == "" or found in ((), []):
            empty.append(row)
        else:
            filled.append((_comparable(found), row))
    filled.sort(key=lambda pair: pair[0], reverse=descending)
    return [row for _, row in filled] + empty


def _comparable(value: Any) -> tuple[bool, Any]:
    """Return a value by which others of its column compare: False before True, numbers before words."""
    if isinstance(value, int):
        return False, value
    if isinstance(value, list | tuple):
        return True, ", ".join(str(item) for item in value).casefold()
    return True, str(value).casefold()
