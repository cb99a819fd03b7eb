"""What octets of a client mean: base64, names, and the one way to read a message."""

import base64
import binascii
import re
import unicodedata

_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def decoded(word: bytes) -> bytes | None:
    """Return the octets of strict base64 (RFC 4648 section 4), None for anything else."""
    return binascii.a2b_base64(word) if _BASE64.fullmatch(word) else None


def readable(octets: bytes) -> str | None:
    """Return a name or password as text, None where it is none."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return None
    return None if {"Cc", "Zl", "Zp"} & {unicodedata.category(letter) for letter in text} else text


def encoded(text: str) -> bytes:
    """Return a response as a client writes it."""
    return base64.b64encode(text.encode())


def canonical(raw: bytes) -> bytes | None:
    """Return a message with CRLF line ends alone, None where it can be read in two ways (DESIGN "Bytes")."""
    if b"\0" in raw or b"\r" in raw.replace(b"\r\n", b""):
        return None
    lines = raw.replace(b"\r\n", b"\n").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    ends = re.findall(rb"\r\n|\n", raw)
    header = lines.index(b"") if b"" in lines else len(lines)
    # A CRLF at the very end does not count: curl sends LF lines, and then CRLF.CRLF.
    has_crlf = b"\r\n" in (ends[:-1] if raw.endswith(b"\n") else ends)
    if has_crlf and b"\n" in ends[: header + 1]:
        return None
    if b"" not in lines:
        lines.append(b"")
    return b"".join(line + b"\r\n" for line in lines)
