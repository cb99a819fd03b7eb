"""What keeps a directory, a file or a database: the port of `relay.directory.live`, so that nobody else asks which.

What one holds is the document of `relay.directory.edit`: the same tables, edits, rules and faults for both.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from relay.config.faults import Fault
from relay.directory.directory import Directory
from relay.directory.document import Document
from relay.directory.index import Index

Edit: TypeAlias = Callable[[Document], None]
Check: TypeAlias = Callable[[Directory], Iterable[Fault]]
"""Returns the faults that a good directory has with what stands elsewhere (relay.toml)."""
State: TypeAlias = object
"""Names a state of what is kept: another one after any change."""


class ChangeRefused(Exception):
    """What is kept cannot be changed. The message is one sentence that names it and says why."""


class DirectoryChanged(ChangeRefused):
    """Somebody else changed the directory since it was read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A directory and the state of what says it; after a change also the directory before it.

    With the `index` of the directory, where that is known already.
    """

    directory: Directory
    state: State
    before: Directory | None = None
    index: Index | None = field(default=None, compare=False, repr=False)


class Storage(Protocol):
    """One directory where it is kept. Whatever is not there is an empty directory."""

    @property
    def name(self) -> str:
        """How faults and refusals call it."""

    @property
    def is_edited_by_hand(self) -> bool:
        """Whether a change that we did not make is a person's, and not that of another relay, which has told of it."""

    @property
    def unreachable(self) -> tuple[type[Exception], ...]:
        """What is raised where it cannot be reached just now."""

    @property
    def is_large(self) -> bool:
        """Whether it takes long to read."""

    @property
    def absent(self) -> State:
        """The state of what is not there at all."""

    async def state(self) -> State:
        """Return the state it is in. Cheap."""

    async def read(self) -> Snapshot:
        """Return what it says now. Raises Faults."""

    async def preview(self, edit: Edit) -> Directory:
        """Return the directory that an edit would make of what it says now. Raises Faults, and what `edit` raises."""

    async def change(
        self, edit: Edit, *, must_exist: bool, known: Snapshot, check: Callable[[Directory], None]
    ) -> Snapshot:
        """Apply an edit, check the result, keep it in one step, and return what it says now.

        `edit` changes the document in place; it may be called again, on another copy or on what somebody else has made
        of it meanwhile. `must_exist` refuses to begin anew what has vanished: whoever had one means that one. `check`
        is given the directory before the edit; `known` is what the caller has read. Raises Faults, ChangeRefused,
        and whatever `edit` and `check` raise; in every case nothing has changed.
        """

    async def warnings(self, directory: Directory) -> tuple[Fault, ...]:
        """Return a warning for each password that stands there, and for each server without its OAuth app."""
