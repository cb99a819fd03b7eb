"""Plays the transcripts of tests/dialogs against a real listener.

A transcript is a text file, read from top to bottom:

    # words for the reader
    @ recipients=2          a limit of this relay: message_size, recipients, errors; or "untrusted" for a client that is
    C: EHLO client.example  the client sends a line; several in a row go out in one write
    C\\ NOOP\\r\\n             it sends exactly these bytes, written as in Python
    C> close                it closes the connection; "C> half-close": it sends no more, but listens
    S: 250 2.0.0 Ok         the server answers exactly this; "*" stands for any text
    S> closed               the server closes the connection
    = 1                     so many messages have been handed over so far
    = | Subject: Hi         a line of the last of them, all its lines in order
    = MAIL RET=FULL         what its MAIL said about reports
    = RCPT jo@b.example NOTIFY=NEVER   its next recipient, and what was said about reports to it
"""

import codecs
import fnmatch
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

from relay.listener.tolerance import Tolerance
from relay.settings import Limits, Listener
from tests.listener.listener_kit import Door, Handed, RawClient, door

DIALOGS = Path(__file__).parents[1] / "dialogs"


async def play(transcript: Path) -> None:
    """Play one transcript. Fails with its file and line."""
    lines = [(number, line) for number, line in enumerate(transcript.read_text().splitlines(), 1) if line.strip()]
    facts = dict(line.removeprefix("@ ").partition("=")[::2] for _, line in lines if line.startswith("@ "))
    async with _door(facts) as relay, relay.client() as client:
        player = _Player(relay, client)
        for number, line in lines:
            if line[0] not in "#@":
                try:
                    await player.step(line)
                except (AssertionError, TimeoutError) as error:
                    raise AssertionError(f"{transcript.name}, line {number}: {line}\n{error}") from error


def _door(facts: dict[str, str]) -> AbstractAsyncContextManager[Door]:
    defaults = Limits()
    limits = Limits(
        message_size=int(facts.get("message_size", defaults.message_size)),
        recipients=int(facts.get("recipients", defaults.recipients)),
    )
    listener = Listener(address="127.0.0.1:0")
    if "untrusted" in facts:
        listener = replace(listener, trusted_networks=())
    return door(listener, limits=limits, tolerance=Tolerance(errors=int(facts.get("errors", 20))))


class _Player:
    def __init__(self, relay: Door, client: RawClient) -> None:
        self.relay = relay
        self.client = client
        self.waiting = b""  # to be sent in one write
        self.content: list[str] = []  # lines of the last message that were not looked at yet
        self.recipients: list[str] = []  # of that message, those that were not looked at yet
        self.seen: Handed | None = None

    async def step(self, line: str) -> None:
        kind, text = line[:2], line[3:]
        if kind == "C:":
            self.waiting += text.encode() + b"\r\n"
            return
        if kind == "C\\":
            self.waiting += codecs.escape_decode(text.encode())[0]
            return
        if self.waiting:
            await self.client.send(self.waiting)
            self.waiting = b""
        match kind:
            case "C>":
                self.leave(text)
            case "S:":
                answer = await self.client.line()
                assert fnmatch.fnmatchcase(answer, text.replace("[", "[[]")), f"the server said: {answer}"
            case "S>":
                rest = await self.client.until_closed()
                assert not rest, f"the server said: {rest.decode()}"
            case "= ":
                self.check(line[2:])
            case _:
                raise AssertionError(f"a line begins with one of C: C\\ C> S: S> = @ #, not with {kind!r}")

    def leave(self, how: str) -> None:
        assert how in {"close", "half-close"}, f"{how} is nothing a client does"
        if how == "half-close":
            self.client.writer.write_eof()
        else:
            self.client.writer.close()

    def check(self, expected: str) -> None:
        messages = self.relay.desk.messages
        if expected.isdigit():
            assert len(messages) == int(expected), f"{len(messages)} messages were handed over"
            return
        if self.seen is not messages[-1]:
            self.look_at(messages[-1])
        kind, _, text = expected.partition(" ")
        match kind:
            case "|":
                found = self.content.pop(0)
            case "MAIL":
                found = " ".join(messages[-1].envelope.report_parameters)
            case _:
                assert kind == "RCPT", f"{kind} is nothing that a message has"
                found = self.recipients.pop(0)
        assert found == text, f"the message has: {found}"

    def look_at(self, message: Handed) -> None:
        self.seen = message
        self.content = message.content.decode().split("\r\n")
        self.recipients = [
            " ".join((str(each.address), *each.report_parameters(smtputf8=True)))
            for each in message.envelope.recipients
        ]
