"""What `set` is given: KEY=VALUE texts or values by key, and the version that the change is meant for."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from relay.config.faults import Fault
from relay.control.refused import Conflict, NotFound, Refused
from relay.directory.directory import Directory
from relay.directory.kinds import Entry, EntryKind
from relay.directory.values import Editable, EditRefused, check_values, parse_assignments


def read_assignments(model: Editable, texts: Iterable[str]) -> dict[str, Any]:
    """Return the values in "KEY=VALUE" texts. Raises Refused with a line for each that cannot be one."""
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for text in texts:
        try:
            values |= parse_assignments(model, [text])
        except EditRefused as error:
            faults.append(Fault("", error.key, str(error)))
    if faults:
        raise Refused("\n".join(fault.message for fault in faults), faults=tuple(faults))
    return values


def changed_values(model: Editable, texts: Iterable[str] | None, values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the values in texts and those that are given as such. Raises Refused, EditRefused."""
    check_values(model, values or {})
    return read_assignments(model, texts or ()) | dict(values or {})


def version_of(entry: Entry) -> str:
    """Return what an entry of the directory has in common with no other state of it. Its password does not count."""
    return hashlib.blake2s(repr(entry).encode("utf-8", "replace"), digest_size=8).hexdigest()


def unchanged(kind: EntryKind[Entry], name: str, expected: str | None) -> Callable[[Directory], None]:
    """Return the check that an entry is still the version that is expected; None expects nothing.

    It raises Conflict where the entry is another, NotFound where it is gone.
    """

    def check(directory: Directory) -> None:
        if expected is None:
            return
        entry = kind.entries(directory).get(name)
        if entry is None:
            raise NotFound(f"{kind.word} '{name}' was removed meanwhile by somebody else")
        if version_of(entry) != expected:
            raise Conflict(f"{kind.word} '{name}' was changed meanwhile by somebody else; look at it and try again")

    return check
