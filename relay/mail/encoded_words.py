"""Text in header fields: encoded words (RFC 2047) in both directions, and folding (RFC 5322 section 2.2.3).

Our own, because the standard library's decoder takes any codec that Python knows and is slow to import. Text that
this cannot decode stays as it was written, with its "=?", so that a caller can see that something is left.
"""

import base64
import binascii
import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

# The charsets of real mail. Others could hide an address from us that a reader's program shows.
_CHARSET = re.compile(
    r"utf-?8|(?:us-)?ascii|iso-8859-\d{1,2}|(?:windows-|cp)\d{3,4}|koi8-[ru]|gb2312|gbk|gb18030|big5|shift_jis"
    r"|euc-(?:jp|kr)|iso-2022-(?:jp|kr)|tis-620",
    re.IGNORECASE,
)
_ENCODED_WORD = re.compile(r"=\?([^\s?*]{1,40})(?:\*[^\s?]{0,40})?\?([bq])\?([^?]*)\?=", re.IGNORECASE)
# RFC 2047 section 2: an encoded word is at most 75 characters. 45 octets are 60 in base64, and 12 go around them.
_OCTETS_PER_WORD = 45
_LINE = 78
_FOLDABLE = re.compile(r" *[^ ]+")
# A display name in ASCII that needs no quotes: atoms with single spaces (RFC 5322 section 3.2.5).
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+)*")
_QUOTABLE = re.compile(r"[ -~]{1,64}")


def encode_words(text: str) -> str:
    """Return text as one or more encoded words in UTF-8, separated by spaces that a reader does not see."""
    return " ".join(f"=?utf-8?b?{base64.b64encode(part).decode('ascii')}?=" for part in _parts(text))


def write_phrase(display: str) -> str:
    """Return a display name as RFC 5322 words: as it is, in quotes, or encoded."""
    if "=?" in display or not _QUOTABLE.fullmatch(display):
        return encode_words(display)
    if _PHRASE.fullmatch(display):
        return display
    return '"' + re.sub(r'(["\\])', r"\\\1", display) + '"'


def decode_words(text: str) -> str:
    """Return text with its encoded words decoded. Words of unknown charset or garbled coding stay as they are."""
    if "=?" not in text:
        return text
    parts: list[str | _Run] = []
    end = 0
    for match in _ENCODED_WORD.finditer(text):
        between = text[end : match.start()]
        octets = _octets(match)
        # White space between two encoded words is not shown (section 6.2).
        if between.strip() or octets is None or not parts or isinstance(parts[-1], str):
            parts.append(between)
        if octets is None:
            parts.append(match[0])
        else:
            _append_word(parts, match[1].lower(), octets)
        end = match.end()
    return "".join(map(str, parts)) + text[end:]


def fold(name: str, value: str) -> bytes:
    """Return the field `name: value` with its CRLF, folded at spaces to lines of 78 characters where that is possible.

    `value` is one line without white space at its ends; its spaces all stay.
    """
    line = f"{name}: {value}"
    if len(line) <= _LINE:
        return line.encode() + b"\r\n"
    lines = [f"{name}:"]
    for word in _FOLDABLE.findall(" " + value):
        if lines == [f"{name}:"] or len(lines[-1]) + len(word) <= _LINE:
            lines[-1] += word
        else:
            lines.append(word)
    return "\r\n".join(lines).encode() + b"\r\n"


@dataclass(slots=True)
class _Run:
    """Encoded words in a row and in one charset. They may share a character, so that they are decoded together."""

    charset: str
    octets: bytearray

    def __str__(self) -> str:
        return self.octets.decode(self.charset, "replace")


def _append_word(parts: list[str | _Run], charset: str, octets: bytes) -> None:
    last = parts[-1] if parts else None
    if isinstance(last, _Run) and last.charset == charset:
        last.octets += octets
    else:
        parts.append(_Run(charset, bytearray(octets)))


def _parts(text: str) -> Iterator[bytes]:
    """Cut text into UTF-8 parts for one encoded word each, never within a character (RFC 2047 section 5)."""
    part = bytearray()
    for character in text:
        octets = character.encode()
        if len(part) + len(octets) > _OCTETS_PER_WORD:
            yield bytes(part)
            part = bytearray()
        part += octets
    yield bytes(part)


def _octets(match: re.Match[str]) -> bytes | None:
    """The octets within an encoded word; None where they cannot be known."""
    charset, coding, coded = match.groups()
    if not coded.isascii() or not _CHARSET.fullmatch(charset):
        return None
    try:
        codecs.lookup(charset)
        if coding in "qQ":
            return binascii.a2b_qp(coded.encode("ascii"), header=True)
        # Strict, because decoders disagree about what follows padding; only padding left out is common.
        bare = coded.encode("ascii").rstrip(b"=")
        return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    except (binascii.Error, LookupError):
        return None
