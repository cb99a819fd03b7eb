"""A header block as its fields, byte for byte (RFC 5322 section 2.2).

The parser is strict: it takes only blocks that every parser splits into the same fields. It does not look into values.
What is changed in a header is told to people in words: in the journey, the log and by `relay route`.
SECURITY: Python's own parser stops reading, or sees other fields, at the lines that this one refuses.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from relay.mail.content import ContentRefused
from relay.mail.encoded_words import decode_words, fold
from relay.mail.reply import Reply, clean_text

# RFC 5322 section 3.6.8: ftext is printable ASCII without the colon; no space between name and colon.
_FIELD = re.compile(rb"^(([!-9;-~]+):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*+)", re.MULTILINE)
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_MOST_FIELDS = 10_000
_SHOWN_OCTETS = 40
_WHITE = b" \t\r\n"
# Of the names of fields, which are few, so many are remembered, and none that is longer than any in use.
_MOST_NAMES = 1024
_LONGEST_NAME = 64

# A Bcc of a thousand addresses is no text for a log.
_MOST_SHOWN = 500
_MOST_SHOWN_FIELDS = 20
# What is kept of one attempt. Headers of good mail stay far below; a script or hostile mail does not fill the store.
_MOST_KEPT = 50
_KEPT_OCTETS = 16 * 1024
_MOST_OCTETS_OF_CHARACTER = 4
_MOST_REMEMBERED = 512


class Field(NamedTuple):
    """One header field: `raw` is the whole of it with its folds and its CRLF; `key` is its name in lower case.

    A tuple, because every message has a dozen of them.
    """

    raw: bytes
    key: str

    @classmethod
    def of(cls, raw: bytes) -> "Field":
        """Return the field that these octets are."""
        return cls(raw, key_of(raw))

    @classmethod
    def make(cls, name: str, value: str) -> "Field":
        """Return a new field, folded where it is long. `value` is one line."""
        return cls(fold(name, value), name.lower())

    @property
    def name(self) -> str:
        """The name as written."""
        return self.raw[: self.raw.index(b":")].decode("ascii")

    @property
    def value(self) -> bytes:
        """What follows the colon, unfolded (RFC 5322 section 2.2.3), without white space at its ends."""
        return value_of(self.raw)

    @property
    def text(self) -> str:
        """The value as text: UTF-8, or where it is none, the Windows charset that such mail is mostly written in."""
        return decode_octets(self.value)


class Header:
    """The fields of a header block in their order: `raws` are their octets, `named` the same by name in lower case.

    Nothing in it changes. A HeaderEdit makes another one of it.
    """

    __slots__ = ("named", "raws")

    def __init__(self, fields: Iterable[Field] = ()) -> None:
        chosen = tuple(fields)
        self.raws: tuple[bytes, ...] = tuple([item.raw for item in chosen])
        self.named: Mapping[str, list[bytes]] = _by_name(zip((item.key for item in chosen), self.raws, strict=True))

    @classmethod
    def parse(cls, block: bytes) -> "Header":
        """Return the fields of a header block in CRLF lines (Content.header).

        Raises ContentRefused: 554 5.6.0 naming the line that is no field, 552 5.3.4 for more than 10,000 fields.
        """
        found = _FIELD.findall(block)
        if not found:
            if block:
                raise _no_field(block)
            return cls()
        raws, names = zip(*found, strict=True)
        # All that matches begins a line, so that fields that make up the whole block are those that follow each other.
        if b"".join(raws) != block:
            raise _no_field(block)
        if len(raws) > _MOST_FIELDS:
            raise ContentRefused(Reply(552, "5.3.4", f"the header block has over {_MOST_FIELDS} fields"))
        header = object.__new__(cls)
        header.raws = raws
        header.named = _by_name(zip(map(_KEYS.__getitem__, names), raws, strict=True))
        return header

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields in their order."""
        return tuple(map(Field.of, self.raws))

    def __bytes__(self) -> bytes:
        return b"".join(self.raws)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Header) and self.raws == other.raws

    def __hash__(self) -> int:
        return hash(self.raws)

    def get_all(self, key: str) -> tuple[Field, ...]:
        """Return the fields of a name, given in lower case."""
        return tuple([Field(raw, key) for raw in self.named.get(key, ())])

    def text_of(self, key: str) -> str:
        """Return the value of the first field of a name, given in lower case, as text; "" where there is none."""
        return decode_octets(value_of(self.named[key][0])) if key in self.named else ""

    def with_field(self, new: Field) -> "Header":
        """Return the header with this field in place of the first of its name and without the others of that name.

        Where there is none, it stands at the end.
        """
        edit = HeaderEdit(self)
        edit.put(new.key, new.raw)
        return edit.header

    def without(self, keys: Collection[str]) -> "Header":
        """Return the header without the fields of these names, given in lower case."""
        return self.without_where(lambda item: item.key in keys)

    def without_where(self, is_unwanted: Callable[[Field], bool]) -> "Header":
        """Return the header without the fields of which this is true; the same header where there are none."""
        kept = [item for item in self.fields if not is_unwanted(item)]
        return self if len(kept) == len(self.raws) else Header(kept)


class Edited(NamedTuple):
    """What was done to the fields of one name: the octets of those that stood there, and of those that do now."""

    key: str
    before: tuple[bytes, ...]
    after: tuple[bytes, ...]


class HeaderEdit:
    """A header while it is changed: its fields, the same by name, and what was done to it, in its order."""

    __slots__ = ("done", "named", "raws")

    def __init__(self, header: Header) -> None:
        self.raws = list(header.raws)
        self.named = dict(header.named)
        self.done: list[Edited] = []

    @property
    def header(self) -> Header:
        """The header as it is now."""
        return Header(map(Field.of, self.raws))

    def put(self, key: str, raw: bytes) -> None:
        """Put a field in place of the first of its name, and take off the others; at the end where there is none."""
        before = self.named.get(key)
        if before is None:
            self.raws.append(raw)
            self.done.append(Edited(key, (), (raw,)))
        elif before != [raw]:
            first = self.raws.index(before[0])
            if len(before) > 1:
                self._take_off(before)
                self.raws.insert(first, raw)
            else:
                self.raws[first] = raw
            self.done.append(Edited(key, tuple(before), (raw,)))
        self.named[key] = [raw]

    def drop(self, key: str) -> None:
        """Take off the fields of a name."""
        before = self.named.pop(key, None)
        if before is not None:
            self._take_off(before)
            self.done.append(Edited(key, tuple(before), ()))

    def _take_off(self, raws: Iterable[bytes]) -> None:
        unwanted = frozenset(raws)  # the same octets are of the same name
        self.raws = [raw for raw in self.raws if raw not in unwanted]


class _Keys(dict[bytes, str]):
    """The names of fields in lower case, by how they are written."""

    def __missing__(self, name: bytes) -> str:
        key = name.decode("ascii").lower()
        if len(name) <= _LONGEST_NAME:
            if len(self) >= _MOST_NAMES:
                self.clear()
            self[name] = key
        return key


_KEYS = _Keys()


def _by_name(fields: Iterable[tuple[str, bytes]]) -> Mapping[str, list[bytes]]:
    named: dict[str, list[bytes]] = {}
    for key, raw in fields:
        if key in named:
            named[key].append(raw)
        else:
            named[key] = [raw]
    return named


def key_of(raw: bytes) -> str:
    """Return the name of a field in lower case."""
    return _KEYS[raw[: raw.index(b":")]]


def value_of(raw: bytes) -> bytes:
    """Return what follows the colon, unfolded (RFC 5322 section 2.2.3), without white space at its ends."""
    value = raw[raw.index(b":") + 1 :].strip(_WHITE)
    return _FOLD.sub(b"", value) if b"\n" in value else value


def has_value(raws: Iterable[bytes]) -> bool:
    """Tell whether one of these fields is more than empty."""
    # The last octet before the CRLF says it of nearly all: it is neither white space nor the colon behind the name.
    for raw in raws:  # noqa: SIM110 - any() costs two more calls, and every message comes here twice
        if (raw[-3] > 0x20 and raw[-3] != 0x3A) or value_of(raw):
            return True
    return False


def decode_octets(value: bytes) -> str:
    """Return header octets as text: UTF-8 (RFC 6532), else Windows-1252. Never raises."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")


def _no_field(block: bytes) -> ContentRefused:
    position = 0
    while match := _FIELD.match(block, position):
        position = match.end()
    line = block.count(b"\n", 0, position) + 1
    start = block[position : position + _SHOWN_OCTETS].partition(b"\r\n")[0]
    shown = clean_text(start.decode("ascii", "backslashreplace"))
    return ContentRefused(Reply(554, "5.6.0", f"line {line} of the header block is no header field: {shown}"))


class Change(NamedTuple):
    """One field that was set, replaced or removed.

    `before` and `after` are decoded, on one line, of at most 500 characters and "..."; "" where there was none.
    """

    field: str
    before: str
    after: str


class KeptChanges(NamedTuple):
    """What was changed in one header, as it is kept and shown: at most 50 changes, of at most 16 KiB of text in all.

    `left_out` says how many more there were.
    """

    changes: tuple[Change, ...] = ()
    left_out: int = 0


_NOTHING = KeptChanges()


def kept(changes: Iterable[Change]) -> KeptChanges:
    """Return what is kept of the changes: each of them whole, in their order, as far as there is room."""
    given = tuple(changes)
    if not given:
        return _NOTHING
    characters = len("".join([text for change in given for text in change]))
    is_short = characters * _MOST_OCTETS_OF_CHARACTER <= _KEPT_OCTETS
    return KeptChanges(given) if is_short and len(given) <= _MOST_KEPT else _cut(given)


def _cut(changes: Iterable[Change]) -> KeptChanges:
    found: list[Change] = []
    left_out, room = 0, _KEPT_OCTETS
    for change in changes:
        octets = len("".join(change).encode("utf-8", "replace"))
        if len(found) < _MOST_KEPT and octets <= room:
            found.append(change)
            room -= octets
        else:
            left_out += 1
    return KeptChanges(tuple(found), left_out)


def change_of(edited: Edited) -> Change:
    """Return in words what was done to the fields of one name."""
    _, before, after = edited
    return Change(_name_of(after or before), _shown(before), _shown(after)) if before else _added(after)


@lru_cache(_MOST_REMEMBERED)  # what is added is ours: the fields of scripts, which all messages of a channel get
def _added(raws: tuple[bytes, ...]) -> Change:
    return Change(_name_of(raws), "", _shown(raws))


def _name_of(raws: Sequence[bytes]) -> str:
    return raws[0].partition(b":")[0].decode("ascii")


def _shown(raws: Sequence[bytes]) -> str:
    values = [decode_octets(value_of(raw))[: 2 * _MOST_SHOWN] for raw in raws[:_MOST_SHOWN_FIELDS]]
    shown = ", ".join([clean_text(decode_words(value)) for value in values])
    return shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + "..."
