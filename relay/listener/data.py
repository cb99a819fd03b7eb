"""DATA: from the bytes behind 354 to the content of one message (RFC 5321 sections 4.1.1.4 and 4.5.2).

SECURITY: only CR LF . CR LF ends a message. Anything else that looks like an end (a bare LF or CR around the dot) is
content, so no client can hide a second message in one (SMTP smuggling, CVE-2023-51764 and its like).
All work is done on whole chunks by the interpreter's own string search, never line by line.
"""

from relay.listener.intake import Intake
from relay.listener.wire import Wire
from relay.mail.content import Content

_END = b"\r\n.\r\n"
_LINE_END = b"\r\n"
_DOTTED = b"\r\n."


class DotReader:
    """Takes the bytes behind 354 as they come and gives the message's own: without dot-stuffing and without the end."""

    def __init__(self) -> None:
        self._held = b""
        self._before = b""  # what was put before the first octet, until it is taken off
        self._has_begun = False
        self.has_ended = False
        self.rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what is certain to be content. After `has_ended`, `rest` holds what follows the message."""
        if not self._has_begun and chunk.startswith(b"."):
            # As if a line had just ended: the end may come at once, and the first line may be dot-stuffed.
            self._held = self._before = _LINE_END
        self._has_begun = self._has_begun or bool(chunk)
        text = self._held + chunk if self._held else chunk
        dotted = _dotted_line(text)
        end = text.find(_END, dotted) if dotted >= 0 else -1
        if end >= 0:
            self.has_ended = True
            self.rest = text[end + len(_END) :]
            text = text[: end + len(_LINE_END)]
        else:
            border = len(text) - _held_back(text)
            self._held = text[border:]
            text = text[:border]
        if not text:
            return text
        # RFC 5321 section 4.5.2: the first dot of a line is not content. A "\r\n." never lies across the border.
        content = text.replace(_DOTTED, _LINE_END) if dotted not in {-1, end} else text
        if self._before:
            content, self._before = content.removeprefix(self._before), b""
        return content


def _dotted_line(text: bytes) -> int:
    """Return where the first line end is that a dot follows, or -1.

    To look for one octet takes a hundredth of the time for three, and encoded files have no dot.
    """
    dot = text.find(b".")
    return text.find(_DOTTED, max(0, dot - len(_LINE_END))) if dot >= 0 else -1


def _held_back(text: bytes) -> int:
    """Return how many of the last octets may be the beginning of the end."""
    return next((count for count in range(len(_END) - 1, 0, -1) if text.endswith(_END[:count])), 0)


async def read_data(wire: Wire, intake: Intake) -> Content:
    """Read one message, to its end, whatever is wrong with it. What was pipelined behind it stays in the wire.

    Raises ContentRefused as the intake does, and ClientLeft where the client goes before the end.
    """
    dots = DotReader()
    while not dots.has_ended:
        chunk = await wire.chunk()
        async with intake.turn(chunk):
            intake.feed(dots.feed(chunk))
        await intake.settle()
    wire.unread(dots.rest)
    return await intake.finish()
