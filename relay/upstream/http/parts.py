"""A large message taken apart: what stays MIME, and the attachments that are uploaded beside it, octet for octet.

Only parts of multipart/mixed and multipart/related are taken out: what is in a signature or an encryption stays, since
nothing of it may change. Where what stays is still too large, the message cannot go.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import unquote

from relay.mail.encoded_words import decode_words
from relay.mail.mime import MimePart
from relay.mail.reply import clean_text

_OPEN = frozenset({"multipart/mixed", "multipart/related"})
_DEEPEST = 5
_END_OF_HEADER = re.compile(rb"\r\n\r\n")
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(r';\s*(?:file)?name\s*=\s*(?:"((?:[^"\\]|\\.){1,400})"|([^\s;"]{1,400}))', re.IGNORECASE)
_EXTENDED = re.compile(r";\s*(?:file)?name\*\s*=\s*utf-8'[^']*'([^\s;]{1,800})", re.IGNORECASE)
_LEAST = 64 * 1024  # octets; a part that is smaller stays
_NOTHING = b"Content-Type: text/plain; charset=us-ascii\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is uploaded: its octets without their transfer encoding."""

    name: str
    kind: str
    octets: bytes
    content_id: str = ""
    is_inline: bool = False


def take_apart(message: bytes, most: int) -> tuple[bytes, list[Attachment]]:
    """Return a message with at most so many octets, and the attachments that were taken out of it, the largest first.

    What is returned is larger where nothing more can be taken out.
    """
    taken: list[Attachment] = []
    for part in sorted(_leaves(message, 0, is_root=True), key=len, reverse=True):
        if len(message) <= most:
            break
        taken.append(_attachment(part))
        message = _without(message, part)
    return message, taken


def _leaves(raw: bytes, depth: int, *, is_root: bool = False) -> Iterable[bytes]:
    """Yield the octets of the parts that may be taken out, each as it stands in the message."""
    part = MimePart.parse(raw)
    if part.kind in _OPEN and depth < _DEEPEST:
        for inner in _inner(raw, part):
            yield from _leaves(inner, depth + 1)
    elif not is_root and len(raw) >= _LEAST and not part.kind.startswith(("multipart/", "message/")):
        yield raw


def _inner(raw: bytes, part: MimePart) -> list[bytes]:
    """Return the parts of a multipart as they stand in it (RFC 2046 section 5.1.1)."""
    named = _BOUNDARY.search(part.get("content-type"))
    start = _END_OF_HEADER.search(raw)
    if named is None or start is None:
        return []
    delimiter = re.compile(rb"\r\n--" + re.escape((named[1] or named[2]).encode()) + rb"(?:--)?[ \t]*(?=\r\n|\Z)")
    # The empty line behind the header may be the line end before the first delimiter.
    marks = list(delimiter.finditer(raw, start.end() - 2))
    return [raw[mark.end() + 2 : after.start()] for mark, after in pairwise(marks)]


def _without(message: bytes, part: bytes) -> bytes:
    """Return the message with an empty part in place of that one."""
    return message.replace(part, _NOTHING, 1)


def _attachment(raw: bytes) -> Attachment:
    part = MimePart.parse(raw)
    disposition = part.get("content-disposition")
    name = _name_in(disposition) or _name_in(part.get("content-type")) or "attachment"
    content_id = part.get("content-id").strip().removeprefix("<").removesuffix(">")
    is_inline = disposition.strip().lower().startswith("inline") and bool(content_id)
    return Attachment(name, part.kind, part.content, clean_text(content_id), is_inline)


def _name_in(value: str) -> str:
    if extended := _EXTENDED.search(value):
        return clean_text(unquote(extended[1]))
    found = _NAME.search(value)
    return clean_text(decode_words(re.sub(r"\\(.)", r"\1", found[1] or found[2]))) if found else ""
