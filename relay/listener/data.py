"""DATA: from the bytes behind 354 to the content of one message (RFC 5321 sections 4.1.1.4 and 4.5.2).

SECURITY: only CR LF . CR LF ends a message. Anything else that looks like an end (a bare LF or CR around the dot) is
content, so no client can hide a second message in one (SMTP smuggling, CVE-2023-51764 and its like).
All work is done on whole chunks by the interpreter's own string search, never line by line.
"""

from relay.listener import replies
from relay.listener.wire import Wire
from relay.mail.content import Content, ContentReader, ContentRefused

_END = b"\r\n.\r\n"
_LINE_END = b"\r\n"


class DotReader:
    """Takes the bytes behind 354 as they come and gives the message's own: without dot-stuffing and without the end."""

    def __init__(self) -> None:
        # As if a line had just ended: the end may come at once, and the first line may be dot-stuffed.
        self._held = _LINE_END
        self._is_first = True
        self.has_ended = False
        self.rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what is certain to be content. After `has_ended`, `rest` holds what follows the message."""
        text = self._held + chunk
        end = text.find(_END)
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
        content = text.replace(b"\r\n.", _LINE_END)
        if self._is_first:
            self._is_first = False
            content = content.removeprefix(_LINE_END)
        return content


def _held_back(text: bytes) -> int:
    """Return how many of the last octets may be the beginning of the end."""
    return next((count for count in range(len(_END) - 1, 0, -1) if text.endswith(_END[:count])), 0)


async def read_data(wire: Wire, largest: int) -> Content:
    """Read one message, to its end, whatever is wrong with it. What was pipelined behind it stays in the wire.

    Raises ContentRefused for one of more than `largest` octets, or one that cannot be read in one way only, and
    ClientLeft where the client goes before the end.
    """
    dots, reader, size = DotReader(), ContentReader(), 0
    while not dots.has_ended:
        text = dots.feed(await wire.chunk())
        size += len(text)
        if size > largest:
            # The rest must pass by, or it would be read as commands; nothing of it is kept (RFC 1870 section 6.3).
            reader = ContentReader()
        else:
            reader.feed(text)
    wire.unread(dots.rest)
    if size > largest:
        raise ContentRefused(replies.TOO_LARGE)
    return reader.finish()
