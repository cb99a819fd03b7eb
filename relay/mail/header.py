"""A header block as its fields, byte for byte (RFC 5322 section 2.2).

The parser is strict: it takes only blocks that every parser splits into the same fields. It does not look into values.
SECURITY: Python's own parser stops reading, or sees other fields, at the lines that this one refuses.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from relay.mail.content import ContentRefused
from relay.mail.reply import Reply, clean_text
from relay.mail.words import fold

# RFC 5322 section 3.6.8: ftext is printable ASCII without the colon; no space between name and colon.
_FIELD = re.compile(rb"([!-9;-~]+):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*+")
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_MOST_FIELDS = 10_000
_SHOWN_OCTETS = 40


class Field(NamedTuple):
    """One header field: `raw` is the whole of it with its folds and its CRLF; `key` is its name in lower case.

    A tuple, because every message has a dozen of them.
    """

    raw: bytes
    key: str

    @classmethod
    def of(cls, raw: bytes) -> "Field":
        """Return the field that these octets are."""
        return cls(raw, _key(raw.partition(b":")[0]))

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
        value = self.raw.partition(b":")[2]
        return (_FOLD.sub(b"", value) if value.count(b"\n") > 1 else value).strip(b" \t\r\n")

    @property
    def text(self) -> str:
        """The value as text: UTF-8, or where it is none, the Windows charset that such mail is mostly written in."""
        return decode_octets(self.value)


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a header block in their order."""

    fields: tuple[Field, ...] = ()

    @classmethod
    def parse(cls, block: bytes) -> "Header":
        """Return the fields of a header block in CRLF lines (Content.header).

        Raises ContentRefused: 554 5.6.0 naming the line that is no field, 552 5.3.4 for more than 10,000 fields.
        """
        fields: list[Field] = []
        position = 0
        while position < len(block):
            match = _FIELD.match(block, position)
            if match is None:
                raise _no_field(block, position)
            fields.append(Field(match[0], _key(match[1])))
            position = match.end()
        if len(fields) > _MOST_FIELDS:
            raise ContentRefused(Reply(552, "5.3.4", f"the header block has over {_MOST_FIELDS} fields"))
        return cls(tuple(fields))

    def __bytes__(self) -> bytes:
        return b"".join([item.raw for item in self.fields])

    def get_all(self, key: str) -> tuple[Field, ...]:
        """Return the fields of a name, given in lower case."""
        return tuple([item for item in self.fields if item.key == key])

    def has_value(self, key: str) -> bool:
        """Tell whether a field of this name, given in lower case, is more than empty."""
        return any(item.value for item in self.get_all(key))

    def with_field(self, new: Field) -> "Header":
        """Return the header with this field in place of the first of its name and without the others of that name.

        Where there is none, it stands at the end.
        """
        fields: list[Field] = []
        is_placed = False
        for item in self.fields:
            if item.key != new.key:
                fields.append(item)
            elif not is_placed:
                fields.append(new)
                is_placed = True
        return Header((*fields, *(() if is_placed else (new,))))

    def with_top(self, new: Field) -> "Header":
        """Return the header with this field above all others."""
        return Header((new, *self.fields))

    def without(self, keys: Collection[str]) -> "Header":
        """Return the header without the fields of these names, given in lower case."""
        return self.without_where(lambda item: item.key in keys)

    def without_where(self, is_unwanted: Callable[[Field], bool]) -> "Header":
        """Return the header without the fields of which this is true; the same header where there are none."""
        kept = tuple([item for item in self.fields if not is_unwanted(item)])
        return self if len(kept) == len(self.fields) else Header(kept)


def _key(name: bytes) -> str:
    return name.decode("ascii").lower()


def decode_octets(value: bytes) -> str:
    """Return header octets as text: UTF-8 (RFC 6532), else Windows-1252. Never raises."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")


def _no_field(block: bytes, position: int) -> ContentRefused:
    line = block.count(b"\n", 0, position) + 1
    start = block[position : position + _SHOWN_OCTETS].partition(b"\r\n")[0]
    shown = clean_text(start.decode("ascii", "backslashreplace"))
    return ContentRefused(Reply(554, "5.6.0", f"line {line} of the header block is no header field: {shown}"))
