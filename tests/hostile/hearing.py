"""The two ends of a connection, as the book uses them: lines and messages come in, replies are expected."""

import base64
from collections.abc import Generator

from tests.hostile.steps import Book, Expect, NeedInput, Step


class Hearing:
    """One connection to one relay. `feed` takes what the client says."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.rules = book.rules
        self.is_over = False
        self.is_at_rest = False  # it waits for a command, and nothing of one has come
        self.challenge = ""  # what SCRAM asked last, "" outside of it
        self._input = b""
        self._errors = 0

    @property
    def errors_left(self) -> int:
        """How many commands it may get wrong before the server leaves."""
        return self.rules.errors - self._errors

    def feed(self, octets: bytes) -> None:
        self._input += octets

    def _line(self, *, is_command: bool = False) -> Generator[Step, tuple[str, ...], bytes]:
        while b"\n" not in self._input:
            self.is_at_rest = is_command and not self._input
            yield NeedInput()
        self.is_at_rest = False
        line, self._input = self._input.split(b"\n", 1)
        return line.removesuffix(b"\r")

    def _octets(self, count: int) -> Generator[Step, tuple[str, ...], bytes]:
        while len(self._input) < count:
            yield NeedInput()
        octets, self._input = self._input[:count], self._input[count:]
        return octets

    def _data(self) -> Generator[Step, tuple[str, ...], bytes]:
        """Return the message without dot-stuffing (RFC 5321 section 4.5.2): only CRLF.CRLF ends it."""
        while not self._input.startswith(b".\r\n") and b"\r\n.\r\n" not in self._input:
            yield NeedInput()
        if self._input.startswith(b".\r\n"):
            raw, self._input = b"", self._input[3:]
        else:
            raw, self._input = self._input.split(b"\r\n.\r\n", 1)
            raw += b"\r\n"
        return b"\r\n".join(line.removeprefix(b".") for line in raw.split(b"\r\n"))

    def _say(self, *codes: str, counts: bool = True) -> Generator[Step, tuple[str, ...], str]:
        """Expect a reply with one of the codes, and return its code. The one reply too many is 421."""
        is_last = counts and self._errors + 1 >= self.rules.errors
        reply = yield Expect(frozenset([*codes, *(["421"] if is_last else [])]))
        code = reply[-1][:3]
        self.had_too_many_errors = code == "421" and "Too many errors" in reply[-1]
        self.challenge = base64.b64decode(reply[-1][4:]).decode() if code == "334" else ""
        if counts and code != "503" and reply[-1][4:8] == "5.5.":
            self._errors += 1
            assert self._errors < self.rules.errors, "an error too many was answered as any other"
        self.is_over = code in {"421", "221"}
        return code
