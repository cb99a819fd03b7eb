"""Lines of a header that are too long to leave: folded at white space (RFC 5322 section 2.2.3).

Pure. A line has at most 998 octets without its CRLF (section 2.1.1); some servers cut a longer one, and then what
stands behind it is another header.
"""

from relay.mail.content import ContentRefused
from relay.mail.header import Edited, Field, Header, edits_between
from relay.mail.reply import Reply

MOST_OCTETS = 998


def fold_long_lines(header: Header) -> tuple[Header, tuple[Edited, ...]]:
    """Return the header without lines over 998 octets, and which fields were folded. Raises ContentRefused: 554 5.6.0.

    Unfolded each field is what it was, octet by octet.
    """
    fields = tuple([item if len(item.raw) <= MOST_OCTETS else _folded(item) for item in header.fields])
    changed = {now.key: None for was, now in zip(header.fields, fields, strict=True) if was.raw != now.raw}
    if not changed:
        return header, ()
    folded = Header(fields)
    return folded, edits_between(header, folded, changed)


def _folded(item: Field) -> Field:
    lines = item.raw.removesuffix(b"\r\n").split(b"\r\n")
    if all(len(line) <= MOST_OCTETS for line in lines):
        return item
    folded = [part for line in lines for part in _parts(line, item.name)]
    return Field(b"\r\n".join(folded) + b"\r\n", item.key)


def _parts(line: bytes, name: str) -> list[bytes]:
    """Return the lines that one is folded to: each begins with white space of it, and none is white space alone."""
    parts = []
    while len(line) > MOST_OCTETS:
        first, end = len(line) - len(line.lstrip(b" \t")), min(MOST_OCTETS + 1, len(line.rstrip(b" \t")))
        place = max(line.rfind(b" ", first, end), line.rfind(b"\t", first, end))
        if place < 0:
            text = f"a line of the field {name[:60]} has over {MOST_OCTETS} octets, and no white space to fold it at"
            raise ContentRefused(Reply(554, "5.6.0", text))
        parts.append(line[:place])
        line = line[place:]
    return [*parts, line]
