"""The settings of a main.cf as values, with the tables that they name (postconf(5), postmap(1)). Pure.

What cannot be had is noted and left out.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from relay.moving.found import Note, Place

_DEEPEST = 20
_MOST_CHARACTERS = 100_000
_MOST_STEPS = 10_000
_CLOSING: Mapping[str, str] = {"{": "}", "(": ")"}
# Those whose rows stand in a text file beside them, or are one.
_WITH_SOURCE = frozenset({"hash", "btree", "lmdb", "dbm", "sdbm", "cdb", "texthash"})
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting of main.cf, as it is written."""

    name: str
    value: str
    place: Place


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a table. Its value may hold a password: a sentence never shows it."""

    key: str
    value: str
    place: Place

    def __repr__(self) -> str:
        return f"Entry({self.key!r} at {self.place})"


def logical_lines(text: str, file: str) -> Iterator[tuple[str, Place]]:
    """Yield each logical line with the place where it begins.

    A line that begins with whitespace goes on with the one before. Empty lines and comments are no lines at all, also
    in the middle of one that goes on.
    """
    parts: list[str] = []
    begin = 0
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if line[0].isspace() and parts:
            parts.append(line.rstrip())
            continue
        if parts:
            yield "".join(parts), Place(file, begin)
        parts, begin = [line.rstrip()], number
    if parts:
        yield "".join(parts), Place(file, begin)


def read_main_cf(text: str, file: str) -> tuple[dict[str, Parameter], list[Note]]:
    """Return the parameters by name, the last of each, and what is no parameter."""
    found: dict[str, Parameter] = {}
    notes: list[Note] = []
    for line, place in logical_lines(text, file):
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals or not name:
            notes.append(
                Note(place, "this line is not a setting: it has no name and '='; Postfix does not start with it")
            )
        elif name.split() != [name]:
            notes.append(Note(place, "the name in front of '=' has a space in it; Postfix knows no such setting"))
        else:
            found[name] = Parameter(name, value.strip(), place)
    return found, notes


def read_table(text: str, file: str) -> tuple[list[Entry], list[Note]]:
    """Return the rows of a table's source, keys in lower case as postmap makes them; of two alike the first counts."""
    entries: dict[str, Entry] = {}
    notes: list[Note] = []
    for line, place in logical_lines(text, file):
        key, value = _key_and_value(line.strip())
        if not key or not value:
            notes.append(Note(place, "this row has no value behind its key; postmap leaves it out, too"))
        elif key in entries:
            first = entries[key].place.line
            notes.append(Note(place, f"the same key stands in line {first} already; Postfix takes the first"))
        else:
            entries[key] = Entry(key, value, place)
    return list(entries.values()), notes


def read_inline(text: str, place: Place) -> tuple[list[Entry], list[Note]]:
    """Return the rows of an inline table: what stands in the braces of "inline:{ key=value, { key = value } }"."""
    entries: list[Entry] = []
    notes: list[Note] = []
    for item in split_list(text):
        inner = item[1:-1] if item.startswith("{") and item.endswith("}") else item
        key, equals, value = inner.partition("=")
        if equals and key.strip() and value.strip():
            entries.append(Entry(key.strip().lower(), value.strip(), place))
        else:
            notes.append(Note(place, "a row of the inline table is not key=value; Postfix does not take it, either"))
    return entries, notes


def split_list(text: str) -> list[str]:
    """Return the items of a list: commas and whitespace separate, but not between braces."""
    items: list[str] = []
    depth, item = 0, ""
    for character in text:
        if depth == 0 and (character == "," or character.isspace()):
            items.append(item)
            item = ""
            continue
        depth += {"{": 1, "}": -1}.get(character, 0) if depth or character == "{" else 0
        item += character
    items.append(item)
    return [item for item in items if item]


def _key_and_value(line: str) -> tuple[str, str]:
    """Return the two halves of a row. Whitespace within quotation marks belongs to the key, and so do they."""
    is_quoted, is_escaped, end = False, False, len(line)
    for at, character in enumerate(line):
        if character.isspace() and not is_quoted:
            end = at
            break
        if character == '"' and not is_escaped:
            is_quoted = not is_quoted
        is_escaped = character == "\\" and is_quoted and not is_escaped
    return line[:end].lower(), line[end:].strip()


class Unreadable(Exception):
    """A value cannot be worked out. The message is the end of a sentence about it."""


class ExpandedParameters:
    """The values of settings by name, each worked out from what is written and from the defaults given here."""

    def __init__(self, written: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self._values = {**defaults, **written}
        self._steps = 0

    def value(self, name: str) -> str:
        """Return the value of a setting; "" for one that nobody set. Raises Unreadable."""
        self._steps = 0
        return self.expanded(self._values.get(name, ""))

    def expanded(self, text: str, depth: int = 0) -> str:
        """Return a text with what its names stand for. Raises Unreadable."""
        if depth > _DEEPEST:
            raise Unreadable("its names refer to each other without end")
        done: list[str] = []
        position = 0
        while (at := text.find("$", position)) >= 0:
            done.append(text[position:at])
            replacement, position = self._named(text, at + 1, depth)
            done.append(replacement)
        result = "".join([*done, text[position:]])
        if len(result) > _MOST_CHARACTERS:
            raise Unreadable("what its names stand for is endlessly long")
        return result

    def _named(self, text: str, begin: int, depth: int) -> tuple[str, int]:
        """Return what the name that begins behind a "$" stands for, and where the text goes on."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise Unreadable("what its names stand for is endlessly long")
        if text[begin : begin + 1] == "$":
            return "$", begin + 1
        if text[begin : begin + 1] in _CLOSING:
            end = _end_of_braces(text, begin)
            return self._in_braces(text[begin + 1 : end], depth), end + 1
        end = begin
        while end < len(text) and _is_of_name(text[end]):
            end += 1
        if end == begin:
            raise Unreadable("a '$' in it names nothing")
        return self.expanded(self._values.get(text[begin:end], ""), depth + 1), end

    def _in_braces(self, text: str, depth: int) -> str:
        """Return what "name", "name?if set" or "name:if not set" in braces stands for."""
        if text.startswith("{"):
            raise Unreadable("a comparison in it (${{…} == {…} ? …}) is more than Relay reads")
        end = next((at for at, character in enumerate(text) if not _is_of_name(character)), len(text))
        name, rest = text[:end], text[end:].strip()
        value = self.expanded(self._values.get(name, ""), depth + 1)
        if not rest:
            return value
        if rest[0] not in "?:":
            raise Unreadable("what stands in its braces is no name")
        chosen, other = _alternatives(rest[1:].strip())
        if rest[0] == ":":
            return "" if value else self.expanded(chosen, depth + 1)
        return self.expanded(chosen if value else other, depth + 1)


def _alternatives(text: str) -> tuple[str, str]:
    """Return "a" and "b" of "{a}:{b}"; "a" alone may stand without braces."""
    if not text.startswith("{"):
        return text, ""
    end = _end_of_braces(text, 0)
    rest = text[end + 1 :].strip()
    other = rest.removeprefix(":").strip()
    return text[1:end].strip(), other[1:-1].strip() if other.startswith("{") and other.endswith("}") else other


def _end_of_braces(text: str, begin: int) -> int:
    opening, closing = text[begin], _CLOSING[text[begin]]
    depth = 0
    for at in range(begin, len(text)):
        depth += (text[at] == opening) - (text[at] == closing)
        if not depth:
            return at
    raise Unreadable("a brace in it is open")


def _is_of_name(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")


@dataclass(frozen=True, slots=True)
class LookupTable:
    """The rows by their keys. `rest` is what every other key finds; `origin` the domain of a bare user name."""

    entries: Mapping[str, Entry]
    rest: Entry | None = None
    origin: str = ""
    delimiters: str = ""

    def __bool__(self) -> bool:
        return bool(self.entries) or self.rest is not None

    def get(self, key: str) -> Entry | None:
        """Return the row of a key."""
        return self.entries.get(key.lower(), self.rest)

    def of(self, address: str) -> Entry | None:
        """Return the row for an address, or "@domain" for one that has no row of its own.

        In this order (canonical(5), generic(5)): the address, the one without its extension, the user name alone where
        the domain is ours, the domain.
        """
        for key in self._keys(address.lower()):
            if key in self.entries:
                return self.entries[key]
        return self.rest

    def senders(self) -> Iterator[tuple[str, Entry]]:
        """Yield each address or "@domain" that has a row of its own, whole domains last."""
        found = [(key if "@" in key else f"{key}@{self.origin}", entry) for key, entry in self.entries.items()]
        yield from (each for each in found if not each[0].startswith("@"))
        yield from (each for each in found if each[0].startswith("@"))

    def _keys(self, address: str) -> Iterator[str]:
        local, _, domain = address.rpartition("@")
        if local:
            base = min((local.partition(mark)[0] or local for mark in self.delimiters), key=len, default=local)
            yield from (address, f"{base}@{domain}")
            if domain == self.origin.lower():
                yield from (local, base)
        yield f"@{domain}"


class TableUnavailable(Exception):
    """The rows of a table cannot be had. The message is a sentence that says why."""


TableSource: TypeAlias = Callable[[str, str], tuple[str, str]]
"""Gives the text of a table ("hash", "/etc/postfix/sasl_passwd") and the name of where it stands. Raises
TableUnavailable.
"""


class PostfixSettings:
    """What a main.cf says. `notes` grow while it is asked. Tables are asked for by kind, a file of lines as "file"."""

    def __init__(self, text: str, file: str, source: TableSource, defaults: Mapping[str, str]) -> None:
        self.file = file
        self.parameters: dict[str, Parameter]
        self.parameters, notes = read_main_cf(text, file)
        self._notes = dict.fromkeys(notes)
        self._source = source
        self._names = ExpandedParameters({name: one.value for name, one in self.parameters.items()}, defaults)
        self._rows: dict[str, LookupTable] = {}

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

    def rows(self, name: str) -> LookupTable:
        """Return the rows of all tables that a setting names; of two with one key the first counts."""
        if name not in self._rows:
            self._rows[name] = self._read_rows(name)
        return self._rows[name]

    def _read_rows(self, name: str) -> LookupTable:
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
        return LookupTable(entries, rest, self.origin, self.text("recipient_delimiter"))

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
