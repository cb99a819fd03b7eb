"""A session with an old printer, scanner or controller: what it may do that RFC 5321 does not allow (`devices = true`).

Its software is what its maker left, so these are taken from it, and from nobody else: TLS 1.0 and 1.1 with the
ciphers of their time, addresses without their brackets, and lines of more than 998 octets, which are folded as Postfix
folds them (smtp_line_length_limit).

SECURITY: nobody outside of the listener's `trusted_networks` is let in: RFC 8996 has retired such TLS, for it can be
broken. The other listeners know nothing of this.
"""

import re
import ssl
from typing import Final

from relay.listener import replies
from relay.listener.commands import parse_mail, parse_rcpt
from relay.listener.session import Session
from relay.mail.content import Body, Gathering, GrowingBody, NewBody
from relay.mail.envelope import Envelope, Recipient

_LONGEST: Final = 998  # octets of a line without its CRLF (RFC 5322 section 2.1.1)
_LONG: Final = re.compile(rb"[^\n]{%d,}" % (_LONGEST + 2))
_WITHOUT_BRACKETS: Final = re.compile(rb"((?:FROM|TO): ?)([^ <>]+)( .*)?", re.IGNORECASE | re.DOTALL)


def with_brackets(argument: bytes) -> bytes:
    """Return the argument of MAIL or RCPT with the address in brackets, as the grammar wants it."""
    found = _WITHOUT_BRACKETS.fullmatch(argument)
    return argument if found is None else b"%b<%b>%b" % (found[1], found[2], found[3] or b"")


class LineFolder:
    """Gathers a body for another in which no line has more than 998 octets.

    A line is cut before the last space that fits, else in front of a character, and the next one begins with a space.
    """

    def __init__(self, body: Gathering) -> None:
        self._body = body
        self._line = b""  # the open line: what came of it since it was last cut

    @property
    def held(self) -> int:
        """How many octets are in memory."""
        return self._body.held + len(self._line)

    def keeps(self, octets: int) -> bool:
        """Whether so many more octets stay in memory."""
        folds = (octets + len(self._line)) // (_LONGEST // 2) + 1
        return self._body.keeps(octets + len(self._line) + 3 * folds)

    def add(self, chunk: bytes) -> None:
        """Take the next chunk."""
        text = self._line + chunk
        border = text.rfind(b"\n") + 1
        open_line = text[border:]
        if len(open_line) > _LONGEST:
            open_line = _folded(open_line)
            cut = open_line.rfind(b"\r\n") + 2
            text, open_line = text[:border] + open_line[:cut], open_line[cut:]
        else:
            text = text[:border]
        self._line = open_line
        if text:
            self._body.add(_LONG.sub(lambda line: _folded(line[0]), text))

    def so_far(self) -> GrowingBody | None:
        """Return what is outside of memory."""
        return self._body.so_far()

    def finish(self) -> Body:
        """Return the body."""
        if self._line:
            self._body.add(self._line)
            self._line = b""
        return self._body.finish()


def _folded(line: bytes) -> bytes:
    """Return a line, with or without its CR, in lines of at most 998 octets."""
    lines, start, before = [], 0, b""
    while len(line) - line.endswith(b"\r") - start > (room := _LONGEST - len(before)):
        end = line.rfind(b" ", start + 1, start + room + 1)
        is_at_space = end >= 0
        if not is_at_space:
            end = start + room
            while end > start + 1 and line[end] & 0xC0 == 0x80:  # within a character of UTF-8
                end -= 1
        lines.append(before + line[start:end])
        start, before = end, b"" if is_at_space else b" "
    return b"\r\n".join([*lines, before + line[start:]])


class DeviceSession(Session):
    """The server's side of a connection with such a device."""

    _reads_whole = False  # each body goes through a LineFolder

    @staticmethod
    def _parse_mail(argument: bytes) -> Envelope:
        return parse_mail(with_brackets(argument))

    @staticmethod
    def _parse_rcpt(argument: bytes) -> Recipient:
        return parse_rcpt(with_brackets(argument))

    def _is_let_in(self) -> bool:
        if not self._client.is_trusted:
            self._turn_away("connect", replies.FOR_DEVICES)
            return False
        return super()._is_let_in()

    def _tls_context(self) -> ssl.SSLContext:
        assert self._listener.certificate is not None
        return self._listener.certificate.old_context()


def folding(new_body: NewBody) -> NewBody:
    """Return what begins bodies that are folded."""
    return lambda: LineFolder(new_body())
