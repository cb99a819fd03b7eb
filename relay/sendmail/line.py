"""One SMTP connection to the service: commands out, replies in (RFC 5321 section 4)."""

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from relay.mail.reply import Reply, clean_text
from relay.sendmail.failure import NotSent, refused

# RFC 5321 section 4.5.3.2: 5 minutes for most replies, 10 after the final dot.
_PATIENCE = 300.0
_PATIENCE_AT_END = 600.0
_PATIENCE_AT_QUIT = 5.0
_LONGEST_LINE = 8192
_MOST_LINES = 200
_REPLY = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r\n]*))?\r?\n")
_SERVICE_GOES = 421


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply with its lines apart, as EHLO needs them."""

    code: int
    lines: tuple[str, ...]

    @property
    def reply(self) -> Reply:
        """The answer on one clean line."""
        return Reply.of_upstream(self.code, "\n".join(self.lines))


class Line:
    """The connection. With `is_verbose` the talk is shown on stderr. Raises NotSent for whatever ends it early."""

    def __init__(self, connection: socket.socket, *, is_verbose: bool) -> None:
        self._connection = connection
        self._is_verbose = is_verbose
        self._is_in_data = False
        self._reader = connection.makefile("rb")
        connection.settimeout(_PATIENCE)

    def expect(self, command: str, about: str = "") -> Answer:
        """Say a command and return its answer. Raises NotSent where it is a refusal, with `about` before its words."""
        return self._accepted(self.ask(command), about)

    def greeting(self) -> Answer:
        """Wait for the first reply. Raises NotSent where it is a refusal."""
        return self._accepted(self._answer(), "")

    def ask(self, command: str) -> Answer:
        """Say a command and return its answer, whatever it is, unless the service goes with it."""
        self._show(">>>", command)
        try:
            self._connection.sendall(command.encode() + b"\r\n")
        except OSError as error:
            self._last_words(error)
        answer = self._answer()
        if answer.code == _SERVICE_GOES:
            raise refused(answer.reply)
        return answer

    def send_data(self, chunks: Iterable[bytes]) -> Answer:
        """Send content in CRLF lines and the final dot; return the answer. Raises NotSent where it is a refusal."""
        self._is_in_data = True
        try:
            for chunk in stuffed(chunks):
                self._connection.sendall(chunk)
            self._connection.sendall(b".\r\n")
        except OSError as error:
            self._last_words(error)
        self._connection.settimeout(_PATIENCE_AT_END)
        answer = self._answer()
        self._is_in_data = False
        return self._accepted(answer, "")

    def close(self) -> None:
        """Take leave, unless in the middle of a message; whether the service answers does not matter any more."""
        with contextlib.suppress(OSError, NotSent):
            self._connection.settimeout(_PATIENCE_AT_QUIT)
            if not self._is_in_data:
                self.ask("QUIT")
        self._reader.close()
        self._connection.close()

    def _accepted(self, answer: Answer, about: str) -> Answer:
        if answer.code >= 400:
            raise refused(answer.reply, about)
        return answer

    def _answer(self) -> Answer:
        lines: list[str] = []
        for _ in range(_MOST_LINES):
            raw = self._read_line()
            match = _REPLY.fullmatch(raw)
            if match is None:
                shown = clean_text(raw[:80].decode("utf-8", "replace"))
                raise NotSent(os.EX_PROTOCOL, f"this is no SMTP service, it said: {shown}")
            self._show("<<<", raw.decode("utf-8", "replace"))
            lines.append((match[3] or b"").decode("utf-8", "replace"))
            if match[2] != b"-":
                return Answer(int(match[1]), tuple(lines))
        raise NotSent(os.EX_PROTOCOL, f"this is no SMTP service, its reply has over {_MOST_LINES} lines")

    def _read_line(self) -> bytes:
        try:
            raw = self._reader.readline(_LONGEST_LINE)
        except TimeoutError:
            raise NotSent(os.EX_TEMPFAIL, "the service does not answer") from None
        except OSError as error:
            raise NotSent(os.EX_TEMPFAIL, f"the connection broke: {error.strerror or error}") from None
        if not raw:
            raise NotSent(os.EX_TEMPFAIL, "the service closed the connection")
        return raw

    def _last_words(self, error: OSError) -> None:
        """Raise what the service said before it stopped listening, or that it did."""
        if isinstance(error, TimeoutError):
            raise NotSent(os.EX_TEMPFAIL, "the service does not take what is sent") from None
        raise refused(self._answer().reply) from None

    def _show(self, mark: str, text: str) -> None:
        if self._is_verbose:
            print(mark, clean_text(text), file=sys.stderr)


def stuffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield content in CRLF lines with one more dot before each line that begins with one (section 4.5.2)."""
    held = b""
    is_start = True
    for chunk in chunks:
        whole = held + chunk
        held = b"\r" if whole.endswith(b"\r") else b""
        piece = whole.removesuffix(held)
        if piece:
            first = b"." if is_start and piece.startswith(b".") else b""
            yield first + piece.replace(b"\r\n.", b"\r\n..")
            is_start = piece.endswith(b"\r\n")
    if held:
        yield held
