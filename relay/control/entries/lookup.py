"""What a person named, found in the directory in effect."""

from typing import TypeVar

from relay.config.schema import no_such
from relay.control.context import ControlContext
from relay.control.refused import NotFound
from relay.directory.kinds import KINDS, Entry, EntryKind

E = TypeVar("E", bound=Entry)


def find_entry(parts: ControlContext, kind: EntryKind[E], name: str) -> E:
    """Return an entry of a kind. Raises NotFound, which says where the name is that of another kind."""
    directory = parts.directory.routing().directory
    entries = kind.entries(directory)
    if name in entries:
        return entries[name]
    for other in KINDS.values():
        if other.table in kind.named_with and name in other.entries(directory):
            raise NotFound(f"'{name}' is no {kind.word}; it is one of the {other.table}")
    raise NotFound(no_such(kind.word, name, entries))
