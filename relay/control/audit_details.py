"""What one operation changes, written down while it does: by the parts that know, for the one place that keeps it.

SECURITY: a secret is noted by its key alone. Nothing here sees its value, and no parameter is taken over unread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from relay.directory.model import Directory


@dataclass(frozen=True, slots=True)
class Change:
    """One value that is another now: its dotted key, and what it was and is, as JSON has it; None for nothing."""

    key: str
    old: Any
    new: Any


@dataclass(slots=True)
class OperationChanges:
    """The changes of one operation: those that were noted, and the directories before and after each edit."""

    notes: list[Change] = field(default_factory=list)
    edits: list[tuple[Directory, Directory]] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything was changed."""
        return bool(self.notes or self.edits)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Let what happens meanwhile, in this task and those that it starts, be written down here."""
        token = _OPEN.set(self)
        try:
            yield
        finally:
            _OPEN.reset(token)


# Whose operation a part works for goes with the task: an edit of the file and a secret are many calls below.
_OPEN: ContextVar[OperationChanges | None] = ContextVar("operation_changes", default=None)


def note(key: str, old: Any, new: Any) -> None:
    """Write a change down for the operation under way, if there is one."""
    changes = _OPEN.get()
    if changes is not None:
        changes.notes.append(Change(key, old, new))


def note_secret(key: str, *, was_set: bool) -> None:
    """Write down that a secret was set, or changed where there was one. Which, nobody learns."""
    note(key, "set" if was_set else None, "changed" if was_set else "set")


def note_forgotten(key: str) -> None:
    """Write down that a secret is there no more."""
    note(key, "set", None)


def note_edit(before: Directory, after: Directory) -> None:
    """Write an edit of the directory down for the operation under way, if there is one."""
    changes = _OPEN.get()
    if changes is not None:
        changes.edits.append((before, after))
