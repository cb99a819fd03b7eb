"""One reply of a server, read by the letter (RFC 5321 section 4.2). Pure.

SECURITY: the server may send anything. A line has at most 8 KiB, a reply at most 500 lines, and whatever is not a reply
is none: to guess what a server means is how answers and commands lose their step.
"""

import re

from aiosmtplib.errors import SMTPResponseException
from aiosmtplib.response import SMTPResponse

_MOST_OCTETS = 8192
_MOST_LINES = 500
# Three digits, and then a blank, a hyphen where more lines follow, or the end of the line.
_LINE = re.compile(rb"([0-9]{3})(?:([ -])([^\n]*))?\r?\n")


def parse_reply(buffer: bytearray) -> SMTPResponse | None:
    """Take the first reply out of the buffer, None where its last line is still to come.

    Raises SMTPResponseException (-1) for what is no reply, such as lines with different codes (section 4.2.1).
    """
    texts: list[bytes] = []
    code, start = b"", 0
    while (end := buffer.find(b"\n", start) + 1) > 0:
        line = _LINE.fullmatch(buffer, start, end)
        if line is None:
            raise _no_reply("Malformed SMTP response line", buffer[start:end])
        if end - start > _MOST_OCTETS or len(texts) == _MOST_LINES:
            raise SMTPResponseException(-1, "Response too long")
        if texts and line[1] != code:
            raise _no_reply(f"one response with two codes, {code.decode()} and", buffer[start:end])
        code = line[1]
        texts.append((line[3] or b"").strip(b" \t\r"))
        start = end
        if line[2] != b"-":
            del buffer[:end]
            return SMTPResponse(int(code), b"\n".join(texts).decode("utf-8", "surrogateescape"))
    return None


def _no_reply(what: str, line: bytearray) -> SMTPResponseException:
    return SMTPResponseException(-1, f"{what}: {bytes(line[:200])!r}")
