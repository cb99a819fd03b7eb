"""The settings of a main.cf as values, with the tables that they name. What cannot be had is noted and left out."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Protocol

from relay.moving.found import Note, Place
from relay.moving.postfix_lines import Entry, Parameter, read_inline, read_main_cf, read_table, split_list
from relay.moving.postfix_names import Names, Unreadable
from relay.moving.postfix_rows import Rows

# Those whose rows stand in a text file beside them, or are one.
_WITH_SOURCE = frozenset({"hash", "btree", "lmdb", "dbm", "sdbm", "cdb", "texthash"})
_NUMBER = re.compile(r"[0-9]{1,18}")


class TableUnavailable(Exception):
    """The rows of a table cannot be had. The message is a sentence that says why."""


class TableSource(Protocol):
    """Gives the rows of a table as text."""

    def __call__(self, kind: str, path: str, /) -> tuple[str, str]:
        """Return the text of a table ("hash", "/etc/postfix/sasl_passwd") and the name of where that stands.

        Raises TableUnavailable.
        """


class PostfixSettings:
    """What a main.cf says. `notes` grow while it is asked. Tables are asked for by kind, a file of lines as "file"."""

    def __init__(self, text: str, file: str, source: TableSource, defaults: Mapping[str, str]) -> None:
        self.file = file
        self.parameters: dict[str, Parameter]
        self.parameters, notes = read_main_cf(text, file)
        self._notes = dict.fromkeys(notes)
        self._source = source
        self._names = Names({name: one.value for name, one in self.parameters.items()}, defaults)
        self._rows: dict[str, Rows] = {}

    @property
    def notes(self) -> tuple[Note, ...]:
        """What is not taken over, up to now."""
        return tuple(self._notes)

    @cached_property
    def origin(self) -> str:
        """The domain of a sender that is written without one: myorigin, or the first line of the file that it names."""
        origin = self.text("myorigin")
        if not origin.startswith("/"):
            return origin
        try:
            text, _ = self._source("file", origin)
        except TableUnavailable as error:
            self.note(self.place("myorigin"), f"myorigin: {error}")
            return ""
        return (text.split() or [""])[0]

    def note(self, place: Place, message: str) -> None:
        """Note what is not taken over, once."""
        self._notes[Note(place, message)] = None

    def place(self, name: str) -> Place:
        """Return where a setting stands; the whole file for one that nobody wrote."""
        return self.parameters[name].place if name in self.parameters else Place(self.file, 0)

    def text(self, name: str) -> str:
        """Return a setting with what its names stand for; "" where that cannot be worked out."""
        try:
            return self._names.value(name).strip()
        except Unreadable as error:
            self.note(self.place(name), f"{name}: {error}; it is left out")
            return ""

    def items(self, name: str) -> list[str]:
        """Return a setting that is a list."""
        return split_list(self.text(name))

    def flag(self, name: str) -> bool:
        """Whether a setting is "yes"."""
        return self.text(name).lower() == "yes"

    def number(self, name: str) -> int | None:
        """Return a setting that is a whole number and was written; None for any other."""
        text = self.text(name) if name in self.parameters else ""
        return int(text) if _NUMBER.fullmatch(text) else None

    def rows(self, name: str) -> Rows:
        """Return the rows of all tables that a setting names; of two with one key the first counts."""
        if name not in self._rows:
            self._rows[name] = self._read_rows(name)
        return self._rows[name]

    def _read_rows(self, name: str) -> Rows:
        entries: dict[str, Entry] = {}
        rest: Entry | None = None
        for spec in self.items(name):
            kind, colon, path = spec.removeprefix("proxy:").partition(":")
            place = self.place(name)
            if rest is not None:
                break  # behind a static: table nothing is ever looked up
            if kind == "static" and colon:
                rest = Entry("", path[1:-1].strip() if path.startswith("{") else path, place)
            elif kind == "inline" and path.startswith("{") and path.endswith("}"):
                self._add(entries, *read_inline(path[1:-1], place))
            elif kind in _WITH_SOURCE and path:
                self._add(entries, *self._from_file(name, kind, path))
            else:
                shown = kind if colon else spec
                self.note(place, f"{name}: tables of type {shown} are not read; add what it says by hand")
        return Rows(entries, rest, self.origin, self.text("recipient_delimiter"))

    def _from_file(self, name: str, kind: str, path: str) -> tuple[list[Entry], list[Note]]:
        try:
            text, file = self._source(kind, path)
        except TableUnavailable as error:
            return [], [Note(self.place(name), f"{name}: {error}")]
        return read_table(text, file)

    def _add(self, entries: dict[str, Entry], more: list[Entry], notes: list[Note]) -> None:
        for entry in more:
            entries.setdefault(entry.key, entry)
        for place, message in notes:
            self.note(place, message)
