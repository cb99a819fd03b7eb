"""What stands beside the mail (log, counters, history, pages): a fault in it never changes what a client is told.

Once a server has a message, or the store, an exception on the way to the client's 250 would make the client send it
again. So the classes that only tell and count are `harmless` as a whole, and what else is done beside the mail stands
in a `with beside(...)`. A fault is told once a minute for each place.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar

from relay import log

_PAUSE_SECONDS = 60.0
_told: dict[str, float] = {}
_Class = TypeVar("_Class", bound=type)
_Method = TypeVar("_Method", bound=Callable[..., None])


class beside:  # noqa: N801 - it reads as a word: with beside("the history")
    """Let no fault out of the block. `what` names it in the log."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: object) -> bool:
        """Tell a fault and end it, whatever it is: the mail comes first."""
        if kind is None or not issubclass(kind, Exception):
            return False
        tell_fault(self._what)
        return True


def guards_itself(method: _Method) -> _Method:
    """Mark a method of a `harmless` class as one that lets no fault out by itself and tells it (`tell_fault`).

    For what every message calls: a wrapper costs as much as what it guards.
    """
    method.guards_itself = True  # type: ignore[attr-defined]
    return method


def harmless(cls: _Class) -> _Class:
    """Let no public method of a class raise; each returns None then. For classes that only tell and count."""
    for name, value in list(vars(cls).items()):
        if isinstance(value, FunctionType) and not name.startswith("_") and not hasattr(value, "guards_itself"):
            setattr(cls, name, _harmless(value, f"{cls.__name__}.{name}"))
    return cls


def _harmless(method: Callable[..., None], what: str) -> Callable[..., None]:
    @wraps(method)
    def guarded(*arguments: Any, **facts: Any) -> None:
        try:
            method(*arguments, **facts)
        except Exception:  # as above
            tell_fault(what)

    return guarded


def tell_fault(what: str) -> None:
    """Tell the exception that is handled now, where this place has not told one for a while."""
    now = time.monotonic()
    if now - _told.get(what, -_PAUSE_SECONDS) < _PAUSE_SECONDS:
        return
    _told[what] = now
    with suppress(Exception):  # the log may be what is broken
        log.broken("a fault beside the mail; no message is concerned", place=what, exc_info=True)
