"""Messages that are hard to read, and a line to send them by."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.hostile.house import JANE
from tests.hostile.line import Line, line_to

MIB = 1024 * 1024
ENVELOPE = f"MAIL FROM:<{JANE}>\r\nRCPT TO:<you@customer.example>\r\n".encode()
HEAD = b"Subject: hard\r\n\r\n"


@dataclass(frozen=True)
class Hard:
    """A message that is hard to read, and the reply that it must have."""

    text: bytes
    reply: str


def nested(depth: int) -> bytes:
    """A message of multiparts in multiparts."""
    opening = b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (number, number) for number in range(depth)
    )
    return opening + b"\r\nx\r\n" + b"".join(b"--%d--\r\n" % number for number in reversed(range(depth)))


HARD = {
    "16 MiB of empty lines": Hard(HEAD + b"\r\n" * (8 * MIB), "250 2.0.0"),
    "16 MiB of bare line feeds": Hard(HEAD.replace(b"\r\n", b"\n") + b"\n" * (16 * MIB) + b"\r\n", "250 2.0.0"),
    "16 MiB of lines of one letter": Hard(HEAD + b"a\r\n" * (16 * MIB // 3), "250 2.0.0"),
    "2 MiB of lines of one dot": Hard(HEAD + b"..\r\n" * (MIB // 2), "250 2.0.0"),
    "a line of 1 MiB": Hard(HEAD + b"x" * MIB + b"\r\n", "250 2.0.0"),
    "a line of 1 MiB and one octet": Hard(HEAD + b"x" * (MIB + 1) + b"\r\n", "554 5.6.0"),
    "16 MiB in one line": Hard(HEAD + b"x" * (16 * MIB) + b"\r\n", "554 5.6.0"),
    "100,000 header fields": Hard(b"a:\r\n" * 100_000 + b"\r\nx\r\n", "552 5.3.4"),
    "2 MiB of header": Hard(b"Subject: x\r\n" * (2 * MIB // 12) + b"\r\nx\r\n", "552 5.3.4"),
    "one field of 900,000 folds": Hard(b"Subject:\r\n" + b" x\r\n" * 225_000 + b"\r\nx\r\n", "250 2.0.0"),
    "an endless From": Hard(b"From: " + b"(" * 900_000 + b"\r\n\r\nx\r\n", "250 2.0.0"),
    "a From of many quotes": Hard(b"From: " + b'"a" ' * 1000 + b"<\r\n\r\nx\r\n", "250 2.0.0"),
    "9,000 From fields": Hard(b"From: a@b.example\r\n" * 9_000 + b"\r\nx\r\n", "250 2.0.0"),
    "10,000 parts in parts": Hard(nested(10_000), "250 2.0.0"),
    "a NUL at the end of 16 MiB": Hard(HEAD + b"x\r\n" * (5 * MIB) + b"\0\r\n", "554 5.6.0"),
}


@asynccontextmanager
async def greeted(port: int) -> AsyncIterator[Line]:
    async with line_to(port) as line:
        assert (await line.ask())[:3] == "220"
        assert (await line.ask(b"EHLO a\r\n"))[:3] == "250"
        yield line


async def submit(port: int, hard: Hard) -> None:
    """Send a message, and check its reply."""
    async with greeted(port) as line:
        await line.send(ENVELOPE, b"DATA\r\n")
        assert [(await line.ask())[:3] for _ in range(3)] == ["250", "250", "354"]
        assert (await line.ask(hard.text, b".\r\n")).startswith(hard.reply)
