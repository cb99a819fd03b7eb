"""One document in the place of another: what that adds, changes and removes, and the edit that does it. Pure."""

import hashlib
import json
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from relay.directory.document import Document


@dataclass(frozen=True, slots=True)
class Replacement:
    """The keys of entries ("channels.support", "default_server") that are new, other ones, and gone.

    `version` names all of it: another one where either document says something else.
    """

    adds: tuple[str, ...]
    changes: tuple[str, ...]
    removes: tuple[str, ...]
    unchanged: int
    version: str

    @property
    def is_any(self) -> bool:
        """Whether anything becomes another."""
        return bool(self.adds or self.changes or self.removes)


def replacement(old: Mapping[str, Any], new: Mapping[str, Any]) -> Replacement:
    """Return what becomes of one document where the other takes its place."""
    before, after = dict(_entries(old)), dict(_entries(new))
    adds = tuple(key for key in after if key not in before)
    changes = tuple(key for key, entry in after.items() if key in before and before[key] != entry)
    removes = tuple(key for key in before if key not in after)
    digest = hashlib.sha256()
    for key in (*adds, *changes, *removes):  # one by one: a thread that encodes all at once lets no other run
        said = json.dumps([key, before.get(key), after.get(key)], sort_keys=True, default=str)
        digest.update(f"{said}\n".encode("utf-8", "replace"))
    unchanged = len(after) - len(adds) - len(changes)
    return Replacement(adds, changes, removes, unchanged, digest.hexdigest()[:16])


def replace_all(document: Document, new: Mapping[str, Any]) -> None:
    """Let a document say what another one does. What it says already stays in its place."""
    for key in [key for key in document if key not in new]:
        del document[key]
    for key, value in new.items():
        table = document.get(key)
        if not (isinstance(value, Mapping) and isinstance(table, MutableMapping)):
            document[key] = value
            continue
        for name in [name for name in table if name not in value]:
            del table[name]
        table.update(value)


def _entries(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", entry) for name, entry in value.items())
        else:
            yield key, value
