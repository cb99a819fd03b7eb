"""Plays the transcripts of tests/dialogs against a real listener.

A transcript is a text file, read from top to bottom:

    # words for the reader
    @ recipients=2          what this relay is like; the names are in `_Setting`
    C: EHLO client.example  the client sends a line; several in a row go out in one write
    C\\ NOOP\\r\\n             it sends exactly these bytes, written as in Python
    C= AUTH PLAIN {\\0a\\0b}  it sends a line in which what stands in braces goes as base64
    C> close                it closes the connection; "C> half-close": it sends no more, but listens
    C> starttls             it begins TLS, and checks the certificate
    C> scram first a b      it begins SCRAM-SHA-256 as a with the password b; "C> scram final" proves that it knows the
                            password, "C> scram end" has checked that the server knows it too
    S: 250 2.0.0 Ok         the server answers exactly this; "*" stands for any text
    S= 334 {Username:}      the same, with what stands in braces as base64
    S+ 250-AUTH *           lines of the same answer pass by until one that is this
    S> closed               the server closes the connection
    S> stops                the relay is told to stop
    = 1                     so many messages have been handed over so far
    = | Subject: Hi         a line of the last of them, all its lines in order
    = MAIL RET=FULL         what its MAIL said about reports and TLS
    = RCPT jo@b.example NOTIFY=NEVER   its next recipient, and what was said about reports to it
    = WITH ESMTPSA          the word for it in Received
    = LOGIN support         who had logged in; nothing: nobody
"""

import asyncio
import base64
import codecs
import fnmatch
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from scramp import ScramClient

from relay.config.settings import Limits, Listener
from relay.listener.session_limits import SessionLimits
from relay.store.db.errors import StoreError
from tests.dialogs.listener.listener_kit import (
    SECONDS,
    Door,
    FakeLogins,
    Handed,
    RawClient,
    certificate,
    door,
    trusting_context,
)

DIALOGS = Path(__file__).parents[1] / "transcripts"
_LOGIN_PAUSE = 0.01  # seconds; the words of a dialog do not depend on it
_LOOPBACK = (IPv4Network("127.0.0.0/8"),)
_BRACES = re.compile(r"\{([^{}]*)\}")


async def play(transcript: Path) -> None:
    """Play one transcript. Fails with its file and line."""
    lines = [(number, line) for number, line in enumerate(transcript.read_text().splitlines(), 1) if line.strip()]
    setting = _Setting.read([line.removeprefix("@ ") for _, line in lines if line.startswith("@ ")])
    async with setting.door() as relay, relay.client(tls=setting.context) as client:
        player = _Player(relay, client)
        for number, line in lines:
            if line[0] not in "#@":
                try:
                    await player.step(line)
                except (AssertionError, TimeoutError) as error:
                    raise AssertionError(f"{transcript.name}, line {number}: {line}\n{error}") from error


@dataclass
class _Setting:
    """What a transcript says about the relay it was made with."""

    recipients: int = Limits().recipients
    message_size: int = Limits().message_size
    login_failures: int = Limits().login_failures
    connections: int = Limits().connections
    connections_per_client: int = Limits().connections_per_client
    errors: int = 20  # until a client is sent away
    idle_seconds: float = 300.0
    memory: int = SessionLimits().memory  # octets of all messages together
    security: str = "none"  # starttls or tls: then the client begins with TLS
    auth: str = "optional"
    login: dict[str, str] = field(default_factory=dict)  # name:password
    untrusted: bool = False  # the client comes from outside the trusted networks
    proxy: bool = False  # the client is a proxy, whose first line says who the client is
    devices: bool = False  # the listener is for old devices
    no_logins: bool = False  # the store cannot be read, so nobody can be checked

    @classmethod
    def read(cls, facts: list[str]) -> "_Setting":
        setting = cls()
        names = {each.name: each.type for each in fields(cls)}
        for fact in facts:
            name, _, value = fact.partition("=")
            assert name in names, f"{name} is nothing that a relay has"
            if name == "login":
                login, _, password = value.partition(":")
                setting.login[login] = password
            else:
                kind: Any = type(getattr(setting, name))
                setattr(setting, name, True if kind is bool else kind(value))
        return setting

    @property
    def context(self) -> Any:
        return trusting_context() if self.security == "tls" else None

    @asynccontextmanager
    async def door(self) -> AsyncIterator[Door]:
        with ExitStack() as stack:
            pair = stack.enter_context(certificate()) if self.security != "none" else None
            async with door(
                self._listener(),
                limits=self._limits(),
                session_limits=self._session_limits(),
                logins=self._logins(),
                certificate=pair,
            ) as relay:
                yield relay

    def _listener(self) -> Listener:
        trusted = {"trusted_networks": ()} if self.untrusted else {}
        proxy = {"proxy_protocol": True, "proxy_networks": _LOOPBACK} if self.proxy else {}
        options: dict[str, Any] = {
            "security": self.security,
            "auth": self.auth,
            "devices": self.devices,
            **trusted,
            **proxy,
        }
        return Listener(address="127.0.0.1:0", **options)

    def _limits(self) -> Limits:
        return Limits(
            message_size=self.message_size,
            recipients=self.recipients,
            login_failures=self.login_failures,
            connections=self.connections,
            connections_per_client=self.connections_per_client,
        )

    def _session_limits(self) -> SessionLimits:
        return SessionLimits(
            errors=self.errors, idle_seconds=self.idle_seconds, memory=self.memory, login_pause=_LOGIN_PAUSE
        )

    def _logins(self) -> FakeLogins:
        return FakeLogins(self.login, StoreError("the store cannot be read") if self.no_logins else None)


class _Player:
    def __init__(self, relay: Door, client: RawClient) -> None:
        self.relay = relay
        self.client = client
        self.waiting = b""  # to be sent in one write
        self.answer = ""  # the last line of the server
        self.scram: ScramClient | None = None
        self.content: list[str] = []  # lines of the last message that were not looked at yet
        self.recipients: list[str] = []  # of that message, those that were not looked at yet
        self.seen: Handed | None = None
        self.stopping: asyncio.Task[None] | None = None

    async def step(self, line: str) -> None:
        kind, text = line[:2], line[3:]
        match kind:
            case "C:":
                self.waiting += text.encode() + b"\r\n"
            case "C\\":
                self.waiting += _octets(text)
            case "C=":
                self.waiting += _encoded(text).encode() + b"\r\n"
            case _:
                await self.send()
                await self.react(kind, text, line)

    async def send(self) -> None:
        if self.waiting:
            await self.client.send(self.waiting)
            self.waiting = b""

    async def react(self, kind: str, text: str, line: str) -> None:
        match kind:
            case "C>":
                await self.act(text.split())
            case "S:" | "S=":
                await self.hear(_encoded(text) if kind == "S=" else text)
            case "S+":
                await self.hear_some(text)
            case "S>":
                await self.end(text)
            case "= ":
                self.check(line[2:])
            case _:
                raise AssertionError(f"a line begins with one of C: C\\ C= C> S: S= S+ S> = @ #, not with {kind!r}")

    async def hear(self, expected: str) -> None:
        self.answer = await self.client.line()
        assert _is_like(self.answer, expected), f"the server said: {self.answer}"

    async def hear_some(self, expected: str) -> None:
        self.answer = await self.client.line()
        while not _is_like(self.answer, expected):
            assert self.answer[3:4] == "-", f"the answer ended with: {self.answer}"
            self.answer = await self.client.line()

    async def end(self, how: str) -> None:
        if how == "stops":
            self.stopping = asyncio.create_task(self.relay.listeners.stop(patience=SECONDS))
            return
        rest = await self.client.until_closed()
        assert not rest, f"the server said: {rest.decode()}"

    async def act(self, words: list[str]) -> None:
        match words:
            case ["close"]:
                self.client.writer.close()
            case ["half-close"]:
                self.client.writer.write_eof()
            case ["starttls"]:
                await self.client.start_tls(trusting_context())
            case ["scram", "first", name, password]:
                self.scram = ScramClient(["SCRAM-SHA-256"], name, password)
                await self.say(self.scram.get_client_first())
            case ["scram", "final"]:
                assert self.scram is not None
                self.scram.set_server_first(self.challenge())
                await self.say(self.scram.get_client_final())
            case ["scram", "end"]:
                assert self.scram is not None
                self.scram.set_server_final(self.challenge())
                await self.say("")
            case _:
                raise AssertionError(f"{' '.join(words)} is nothing a client does")

    async def say(self, text: str) -> None:
        await self.client.send(base64.b64encode(text.encode()), b"\r\n")

    def challenge(self) -> str:
        return base64.b64decode(self.answer.removeprefix("334 ")).decode()

    def check(self, expected: str) -> None:
        messages = self.relay.acceptance.messages
        if expected.isdigit():
            assert len(messages) == int(expected), f"{len(messages)} messages were handed over"
            return
        if self.seen is not messages[-1]:
            self.look_at(messages[-1])
        kind, _, text = expected.partition(" ")
        found = self.look_for(kind, messages[-1])
        assert found == text, f"the message has: {found}"

    def look_for(self, kind: str, message: Handed) -> str:
        match kind:
            case "|":
                return self.content.pop(0)
            case "MAIL":
                tls = ["REQUIRETLS"] if message.envelope.require_tls else []
                return " ".join([*message.envelope.report_parameters, *tls])
            case "RCPT":
                return self.recipients.pop(0)
            case "WITH":
                return message.arrival.protocol
            case "LOGIN":
                return message.arrival.login
        raise AssertionError(f"{kind} is nothing that a message has")

    def look_at(self, message: Handed) -> None:
        self.seen = message
        self.content = message.content.decode().split("\r\n")
        self.recipients = [
            " ".join((str(each.address), *each.report_parameters(smtputf8=True)))
            for each in message.envelope.recipients
        ]


def _is_like(answer: str, expected: str) -> bool:
    return fnmatch.fnmatchcase(answer, expected.replace("[", "[[]"))


def _octets(text: str) -> bytes:
    return codecs.escape_decode(text.encode())[0]


def _encoded(text: str) -> str:
    return _BRACES.sub(lambda part: base64.b64encode(_octets(part[1])).decode(), text)
