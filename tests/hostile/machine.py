"""Drives a real session with valid and broken commands, whole and octet by octet, beside the book (`book.py`).

The invariant: every reply is one that the book allows at that moment and has its form; what reaches `Acceptance` is
what the book says is complete and owned, and nothing else; nothing raises an exception; and every session ends.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from scramp import ScramClient

from relay.config.settings import Limits, Listener
from relay.listener.session_limits import SessionLimits
from tests.dialogs.listener.listener_kit import Door, FakeLogins, Handed, certificate, door, trusting_context
from tests.hostile.book import Session
from tests.hostile.line import Line
from tests.hostile.phrases import LOGINS, MAILS, PHRASES
from tests.hostile.reading import encoded
from tests.hostile.steps import ANY, Book, Expect, Message, NeedInput, NeedTls, Play, Rules
from tests.peers.told import capture_logs

PASSWORDS = (("support", "right"), ("jane", "schön €"))
_REPLY = re.compile(r"[2-5][0-9]{2}[ -][ -~]*")
# A word that may end the session, where something is behind it.
_END = re.compile(rb"(?ims)^(?:QUIT|GET|POST|PUT|HEAD|DELETE|OPTIONS|CONNECT|TRACE|PATCH|PRI)\b(?=.*\n.)")
_ENHANCED = re.compile(r"([245])[0-9]{2} \1\.[0-9]{1,3}\.[0-9]{1,3} \S.*")
RULES = st.builds(
    Rules,
    security=st.sampled_from(["none", "starttls", "tls"]),
    is_trusted=st.booleans(),
    auth=st.sampled_from(["optional", "required", "none"]),
    passwords=st.just(PASSWORDS),
)


class SessionMachine(RuleBasedStateMachine):
    """One relay, and one client after the other. A subclass says which event loop."""

    loop_factory: Callable[[], asyncio.AbstractEventLoop]

    def __init__(self) -> None:
        super().__init__()
        self.loop = type(self).loop_factory()
        self.stack = AsyncExitStack()
        self.log = self.stack.enter_context(capture_logs())
        self.line: Line | None = None

    def run(self, doing: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(doing)

    @initialize(rules=RULES)
    def open(self, rules: Rules) -> None:
        self.book = Book(rules)
        self.run(self._open(rules))

    @property
    def is_ready(self) -> bool:
        """Whether the server waits for a command, and not for the rest of something."""
        return self.line is not None and self.session.is_at_rest

    @precondition(lambda self: self.line is None)
    @rule()
    def connect(self) -> None:
        self.run(self._connect())

    @precondition(lambda self: self.line is not None)
    @rule(phrases=st.lists(PHRASES, min_size=1, max_size=4), cut=st.integers(0, 60))
    def say(self, phrases: Sequence[bytes], cut: int) -> None:
        """Say several things at once, and cut the octets in pieces of so many; 0 is one write."""
        self.run(self._say(b"".join(phrases), cut))

    @precondition(lambda self: self.is_ready)
    @rule(hello=st.sampled_from([b"EHLO client.example\r\n", b"EHLO a\r\n", b"HELO a\r\n"]), cut=st.integers(0, 60))
    def greet(self, hello: bytes, cut: int) -> None:
        self.run(self._say(hello, cut))

    @precondition(lambda self: self.is_ready and self.session.rules.auth != "none")
    @rule(login=LOGINS, cut=st.integers(0, 60))
    def log_in(self, login: bytes, cut: int) -> None:
        self.run(self._say(login, cut))

    @precondition(lambda self: self.is_ready)
    @rule(mails=st.lists(MAILS, min_size=1, max_size=3), cut=st.integers(0, 60), who=st.sampled_from(PASSWORDS))
    def send_mail(self, mails: Sequence[bytes], cut: int, who: tuple[str, str]) -> None:
        """Whole transactions, pipelined behind whatever is needed to be allowed to."""
        before = b"" if self.session.may_submit and self.session.hello else b"EHLO client.example\r\n"
        if not self.session.may_submit:
            before += b"AUTH PLAIN " + encoded("\0{}\0{}".format(*who)) + b"\r\n"
        self.run(self._say(before + b"".join(mails), cut))

    @precondition(lambda self: self.is_ready and not (self.session.may_submit and self.session.hello))
    @rule(mail=MAILS)
    def send_mail_unasked(self, mail: bytes) -> None:
        """Without what is needed: no greeting, or no login."""
        self.run(self._say(mail, 0))

    @precondition(lambda self: self.is_ready)
    @rule(injected=st.lists(PHRASES, max_size=2))
    def start_tls(self, injected: Sequence[bytes]) -> None:
        """STARTTLS, with more behind it in the same segment."""
        self.run(self._say(b"STARTTLS\r\n" + b"".join(injected), 0))

    @precondition(lambda self: self.is_ready)
    @rule(name=st.sampled_from(["support", "jane", "nobody"]), password=st.sampled_from(["right", "wrong"]))
    def scram(self, name: str, password: str) -> None:
        self.run(self._scram(name, password))

    @precondition(lambda self: self.line is not None)
    @rule(how=st.sampled_from([Line.half_close, Line.reset, Line.close]))
    def leave(self, how: Callable[[Line], None]) -> None:
        self.run(self._leave(how))

    def teardown(self) -> None:
        try:
            if self.line is not None and self.session.is_at_rest:
                self.run(self._say(b"QUIT\r\n", 0))
            elif self.line is not None:
                self.run(self._leave(Line.half_close))
            self.run(self._end())
        finally:
            self.loop.run_until_complete(self.stack.aclose())
            self.loop.close()
        faults = [line for line in self.log if line["log_level"] not in {"info", "debug"}]
        assert not faults, faults

    # How it is done.

    async def _open(self, rules: Rules) -> None:
        pair = self.stack.enter_context(certificate()) if rules.security != "none" else None
        options: dict[str, Any] = {"security": rules.security, "auth": rules.auth}
        if not rules.is_trusted:
            options["trusted_networks"] = ()
        listener = Listener(address="127.0.0.1:0", **options)
        self.relay: Door = await self.stack.enter_async_context(
            door(
                listener,
                limits=Limits(
                    message_size=rules.message_size, recipients=rules.recipients, login_failures=rules.login_failures
                ),
                session_limits=SessionLimits(errors=rules.errors, login_pause=0.0001, goodbye_seconds=0.2),
                logins=FakeLogins(dict(rules.passwords)),
                certificate=pair,
            )
        )

    async def _connect(self) -> None:
        self.session: Session = Session(self.book)
        self.play: Play = self.session.play()
        self.step = next(self.play)
        self.line = await Line.connect(int(self.relay.listeners.addresses[0].rpartition(":")[2]))
        if self.session.is_tls:
            await self.line.start_tls(trusting_context())
        await self._listen()

    async def _say(self, octets: bytes, cut: int) -> None:
        assert self.line is not None
        self.session.feed(octets)
        self.step = next(self.play)
        await self.line.send_in(self._cut(octets, cut))
        await self._listen()

    def _cut(self, octets: bytes, cut: int) -> list[bytes]:
        """Return the pieces in which octets leave. What may be behind the end of the session leaves with the end.

        Octets that come when the server has closed its side are answered by its kernel with a reset, and with that
        ours forgets the replies that nobody has read.
        """
        end = _END.search(octets)
        if not cut or octets.count(b"\n") >= self.session.errors_left:
            return [octets]
        whole = end.start() if end else len(octets)
        return [*(octets[at : min(at + cut, whole)] for at in range(0, whole, cut)), octets[whole:]]

    async def _listen(self) -> None:
        """Hear what must come, to the point where the client must say more or the session is over."""
        assert self.line is not None
        try:
            while not isinstance(self.step, NeedInput):
                if isinstance(self.step, NeedTls):
                    await self.line.start_tls(trusting_context())
                    self.step = next(self.play)
                else:
                    self.step = self.play.send(await self._reply(self.step))
        except StopIteration:
            assert await self.line.rest() == b"", "something was said behind the last words"
            self._close()
        self._compare()

    async def _reply(self, expected: Expect) -> tuple[str, ...]:
        assert self.line is not None
        reply = await self.line.reply()
        assert reply, f"the server has left instead of one of {sorted(expected.codes)}"
        assert all(_REPLY.fullmatch(line) and len(line) <= 510 for line in reply), reply
        assert {line[:3] for line in reply} <= expected.codes, f"{reply} is none of {sorted(expected.codes)}"
        if expected.is_enhanced and reply[0][0] != "3":
            assert _ENHANCED.fullmatch(reply[0]), reply
        return reply

    async def _scram(self, name: str, password: str) -> None:
        """An honest client, as far as the server lets it."""
        assert self.line is not None
        client = ScramClient(["SCRAM-SHA-256"], name, password)
        self.session.proved = name if (name, password) in self.session.rules.passwords else ""
        await self._say(b"AUTH SCRAM-SHA-256 " + encoded(client.get_client_first()) + b"\r\n", 0)
        if self.line is not None and self.session.challenge:
            client.set_server_first(self.session.challenge)
            await self._say(encoded(client.get_client_final()) + b"\r\n", 0)
        if self.line is not None and self.session.challenge:
            client.set_server_final(self.session.challenge)
            await self._say(b"\r\n", 0)

    async def _leave(self, how: Callable[[Line], None]) -> None:
        assert self.line is not None
        how(self.line)
        if how is Line.half_close:
            # Whoever has not said the end of its message has said nothing: no reply comes any more.
            rest = await self.line.rest()
            assert rest == b"", f"the server said {rest!r} to one who had said nothing more"
        self._close()
        await self.relay.all_left()
        self._compare()

    async def _end(self) -> None:
        self._close()
        await self.relay.all_left()
        self._compare()

    def _close(self) -> None:
        if self.line is not None:
            self.line.close()
        self.line = None

    def _compare(self) -> None:
        """Compare what reached `Acceptance` with what the book says must have."""
        came = self.relay.acceptance.messages
        assert len(came) == len(self.book.messages), f"{len(came)} messages, and not {len(self.book.messages)}"
        for handed, message in zip(came[-1:], self.book.messages[-1:], strict=True):
            compare(handed, message)


def compare(handed: Handed, message: Message) -> None:
    """Compare one message with what it must be. AssertionError where it differs."""
    sender = str(handed.envelope.sender) if handed.envelope.sender else None
    recipients = tuple(str(each.address) for each in handed.envelope.recipients)
    assert message.sender in {ANY, sender}
    assert len(recipients) == len(message.recipients)
    assert all(must in {ANY, is_} for must, is_ in zip(message.recipients, recipients, strict=True))
    assert handed.content == message.content
    assert message.protocol in {ANY, handed.arrival.protocol}
    assert handed.client.login == handed.arrival.login == message.login
    written = f"{sender}{recipients}{handed.envelope.envid}{handed.arrival.helo}"
    assert not re.search(r"[\x00-\x1f\x7f]", written)
