"""Mail that others wrote, taken apart as far as a person's program would: header fields, parts, text.

Lenient where `header` is strict: it is for mail that arrived and is looked at, never for mail that leaves. Any bytes
can be read; what makes no sense is left out.
SECURITY: the depth and the number of parts are bounded, and nothing here calls itself, so that no message is too deep.
"""

import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from relay.mail.header import decode_octets

# Names in lower case with their unfolded values, in their order.
Fields: TypeAlias = tuple[tuple[str, str], ...]

_DEEPEST = 5
_MOST_PARTS = 100
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(rb"([!-9;-~]{1,100})[ \t]*:([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)")
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([A-Za-z0-9._-]{1,40})', re.IGNORECASE)
_FOLD = re.compile(rb"\r?\n(?=[ \t])")


@dataclass(frozen=True, slots=True)
class MimePart:
    """A message, or a part of one: its fields, and its body as it came."""

    fields: Fields
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "MimePart":
        """Return the message or part in these bytes, with CRLF or LF line ends. Never raises."""
        if raw[:1] == b"\n" or raw[:2] == b"\r\n":  # a part without fields
            return cls((), raw.partition(b"\n")[2])
        end = _END_OF_HEADER.search(raw)
        header, body = (raw[: end.start()], raw[end.end() :]) if end else (raw, b"")
        return cls(tuple(_fields(header)), body)

    def get(self, key: str) -> str:
        """Return the value of the first field of a name, given in lower case; "" where there is none."""
        return value_of(self.fields, key)

    @property
    def kind(self) -> str:
        """The media type in lower case, "text/plain" where none is named (RFC 2045 section 5.2)."""
        return self.get("content-type").partition(";")[0].strip().lower() or "text/plain"

    @property
    def content(self) -> bytes:
        """The body without its transfer encoding; as it came where that cannot be undone."""
        coding = self.get("content-transfer-encoding").strip().lower()
        try:
            if coding == "base64":
                return binascii.a2b_base64(self.body)
            return binascii.a2b_qp(self.body) if coding == "quoted-printable" else self.body
        except binascii.Error:
            return self.body

    @property
    def text(self) -> str:
        """The body as text with LF line ends."""
        content = self.content.replace(b"\r\n", b"\n")
        charset = _CHARSET.search(self.get("content-type"))
        try:
            return content.decode(charset[1]) if charset else decode_octets(content)
        except (LookupError, ValueError):
            return decode_octets(content)

    @property
    def leaves(self) -> tuple["MimePart", ...]:
        """The parts that are no multipart themselves, in their order; of a plain message itself."""
        found: list[MimePart] = []
        waiting = [(self, 0)]
        while waiting and len(found) < _MOST_PARTS:
            part, depth = waiting.pop()
            inner = part.inner if depth < _DEEPEST else ()
            if inner:
                waiting += [(each, depth + 1) for each in reversed(inner)]
            else:
                found.append(part)
        return tuple(found)

    @property
    def inner(self) -> tuple["MimePart", ...]:
        """The parts of a multipart (RFC 2046 section 5.1); none where it is not one."""
        boundary = _BOUNDARY.search(self.get("content-type"))
        if boundary is None or not self.kind.startswith("multipart/"):
            return ()
        name = re.escape((boundary[1] or boundary[2]).encode())
        delimiter = re.compile(rb"(?:\A|\r?\n)--" + name + rb"(--)?[ \t]*(?=\r?\n|\Z)")
        return tuple(MimePart.parse(raw) for raw in _between(self.body, delimiter))


def value_of(fields: Fields, key: str) -> str:
    """Return the value of the first field of a name, given in lower case; "" where there is none."""
    return next((value for name, value in fields if name == key), "")


def blocks_of(text: str) -> Sequence[Fields]:
    """Return the groups of fields in a text, with empty lines between them (RFC 3464 section 2.1)."""
    groups = re.split(r"\n[ \t]*\n", text.strip("\n"))
    return [tuple(_fields(group.encode("utf-8", "replace"))) for group in groups[:_MOST_PARTS]]


def _fields(header: bytes) -> Iterator[tuple[str, str]]:
    for match in _FIELD.finditer(header):
        if match.start() == 0 or header[match.start() - 1 : match.start()] == b"\n":
            value = _FOLD.sub(b"", match[2]).strip(b" \t\r\n")
            yield match[1].decode("ascii").lower(), decode_octets(value)


def _between(body: bytes, delimiter: re.Pattern[bytes]) -> Iterator[bytes]:
    start: int | None = None
    for match in delimiter.finditer(body):
        if start is not None:
            yield body[start : match.start()]
        start = match.end() + (2 if body[match.end() : match.end() + 2] == b"\r\n" else 1)
        if match[1]:
            return
    if start is not None:  # cut off before its end
        yield body[start:]
