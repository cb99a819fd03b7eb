"""The lines of Postfix's files: main.cf and the sources of its tables (postconf(5), postmap(1)). Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from relay.moving.found import Note, Place


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
            notes.append(Note(place, "this line is no setting: it has no name and '='; Postfix does not start with it"))
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
            notes.append(Note(place, "a row of the inline table is no key=value; Postfix does not take it, either"))
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
