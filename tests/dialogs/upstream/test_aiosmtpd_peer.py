"""Against a server that we did not write: aiosmtpd with logins and TLS, in both event loops that Relay runs on."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.directory.model import Account, Auth, Meaning, Security
from relay.mail.content import Content
from relay.secrets.secret import Secret
from relay.upstream.outcome import Outcome
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Progress
from tests.dialogs.upstream.upstream_kit import FAST, Certificates, Drop, scripted, server_at, transfer_to

pytestmark = pytest.mark.timeout(20)
ACCOUNTS = {"mailer": "word of mailer", "support": "wörd"}
HEADER = b"Subject: hello\r\n"


@dataclass
class Post:
    """What arrived: (login, sender, recipients, content), and what was refused on the way."""

    arrived: list[tuple[str, str, tuple[str, ...], bytes]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        name, word = data.login.decode(), data.password.decode()
        self.logins.append(name)
        return AuthResult(success=ACCOUNTS.get(name) == word, handled=False, auth_data=name)

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [responses[0], "250-PIPELINING", *responses[1:]]  # it can, and does not say so

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        login = str(session.auth_data or "")
        self.arrived.append((login, envelope.mail_from or "", tuple(envelope.rcpt_tos), content))
        return "250 2.0.0 kept"


@asynccontextmanager
async def peer(tls: ssl.SSLContext | None = None, *, implicit: bool = False) -> AsyncIterator[tuple[Post, int]]:
    post = Post()

    def session() -> SMTP:
        return SMTP(
            post,
            hostname="peer.example",
            authenticator=post.authenticate,
            auth_require_tls=False,
            enable_SMTPUTF8=True,
            tls_context=None if implicit else tls,
            require_starttls=tls is not None and not implicit,
        )

    loop = asyncio.get_running_loop()
    listener = await loop.create_server(session, "127.0.0.1", 0, ssl=tls if implicit else None)
    try:
        yield post, listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    way_out = Upstream("relay.example", FAST)
    yield way_out
    await way_out.aclose()


def run(loop: str, scenario: Coroutine[Any, Any, None]) -> None:
    """On uvloop or on asyncio's own loop."""
    if loop == "uvloop":
        uvloop.run(scenario)
    else:
        asyncio.run(scenario)


def sent(raw: bytes) -> Content:
    return Content(HEADER, (raw,))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("security", list(Security))
@pytest.mark.parametrize("auth", [Auth.PLAIN, Auth.LOGIN, Auth.AUTO])
def test_a_message_arrives_as_the_account_that_sends_it(
    certificates: Certificates, loop: str, security: Security, auth: Auth
) -> None:
    async def scenario() -> None:
        tls = None if security is Security.NONE else certificates.good
        async with peer(tls, implicit=security is Security.TLS) as (post, port), upstream() as way_out:
            for name, word in ACCOUNTS.items():
                server = server_at(port, security=security, auth=auth, ca_file=certificates.ca_file)
                outcome = await way_out.deliver(
                    transfer_to(
                        server,
                        "jo@there.example",
                        "nobody@there.example",
                        account=Account("acme", name),
                        secret=Secret(word, name),
                        content=sent(b"for " + name.encode() + b"\r\n"),
                    )
                )
                assert str(outcome.accepted) == "250 2.0.0 kept"
                assert outcome.refused[1].meaning is Meaning.REFUSED
                assert (outcome.tls is None) is (security is Security.NONE)
            assert [(login, content) for login, _, _, content in post.arrived] == [
                (name, HEADER + b"\r\nfor " + name.encode() + b"\r\n") for name in ACCOUNTS
            ]

    run(loop, scenario())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_wrong_password_is_tried_once(loop: str) -> None:
    async def scenario() -> None:
        async with peer() as (post, port), upstream() as way_out:
            transfer = transfer_to(server_at(port, auth=Auth.AUTO), secret=Secret("wrong", "1"))
            failure = (await way_out.deliver(transfer)).failure
            assert failure is not None
            assert (failure.reply.code, failure.meaning) == (535, Meaning.LOGIN_REFUSED)
            assert post.logins == ["mailer"]

    run(loop, scenario())


LARGE = Content(HEADER, tuple(b"." + b"x" * 998 + b"\r\n" + b".\r\n" * 20_000 for _ in range(100)))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("security", list(Security))
def test_a_large_message_arrives_whole(certificates: Certificates, loop: str, security: Security) -> None:
    async def scenario() -> None:
        tls = None if security is Security.NONE else certificates.good
        offers = ("STARTTLS", "8BITMIME")
        async with scripted(tls=tls, implicit=security is Security.TLS, offers=offers) as server:
            async with upstream() as way_out:
                target = server_at(server.port, security=security, ca_file=certificates.ca_file)
                assert (await way_out.deliver(transfer_to(target, content=LARGE))).accepted
            raw = server.messages[0]
            assert raw == b"".join(LARGE.chunks()).replace(b"\r\n.", b"\r\n..") + b".\r\n"

    run(loop, scenario())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("security", [Security.NONE, Security.TLS])
def test_an_answer_in_the_middle_ends_the_upload(certificates: Certificates, loop: str, security: Security) -> None:
    async def scenario() -> None:
        async def give_up(line: Any) -> None:
            await line.send(b"354 go on\r\n")
            await line.reader.readexactly(100_000)
            await line.send(b"552 5.3.4 too much\r\n")
            await asyncio.Event().wait()

        tls = certificates.good if security is Security.TLS else None
        async with scripted(answers={"DATA": give_up}, tls=tls, implicit=tls is not None) as server:
            progress = Progress()
            async with upstream() as way_out:
                target = server_at(server.port, security=security, ca_file=certificates.ca_file)
                outcome = await way_out.deliver(transfer_to(target, content=LARGE), progress)
            assert outcome.failure is not None
            assert str(outcome.failure.reply) == "552 5.3.4 too much"
            assert not progress.final_dot_sent

    run(loop, scenario())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("key", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."])
def test_a_lost_connection_is_an_outcome(loop: str, key: str) -> None:
    async def scenario() -> None:
        async with scripted(answers={key: Drop()}) as server, upstream() as way_out:
            outcome = await way_out.deliver(transfer_to(server_at(server.port)))
            assert outcome.failure is not None
            assert outcome.failure.meaning is (Meaning.UNKNOWN if key == "." else Meaning.TEMPORARY)

    run(loop, scenario())


LINES = st.lists(
    st.one_of(st.sampled_from([b"", b".", b"..", b".\t", b"From x"]), st.binary(max_size=30)), max_size=8
).map(
    lambda lines: b"".join(line.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"") + b"\r\n" for line in lines)
)


@given(bodies=st.lists(LINES, min_size=1, max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_sent_arrives_as_it_was(bodies: list[bytes]) -> None:
    """For any canonical content: what the peer undoes of the dot-stuffing is what we were given, message by message."""

    async def scenario() -> list[Outcome]:
        async with peer() as (post, port), upstream() as way_out:
            server = server_at(port)
            outcomes = [await way_out.deliver(transfer_to(server, content=sent(body))) for body in bodies]
            assert [content for *_, content in post.arrived] == [HEADER + b"\r\n" + body for body in bodies]
            return outcomes

    assert all(outcome.accepted for outcome in asyncio.run(scenario()))


@given(bodies=st.lists(LINES, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_on_the_wire_every_line_ends_with_crlf_and_only_the_end_is_a_lone_dot(bodies: list[bytes]) -> None:
    content = Content(HEADER, tuple(bodies))

    async def scenario() -> bytes:
        async with scripted() as server, upstream() as way_out:
            assert (await way_out.deliver(transfer_to(server_at(server.port), content=content))).accepted
            assert len(server.messages) == 1
            return server.messages[0]

    raw = asyncio.run(scenario())
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    lines = raw.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert b"." not in lines[:-2]
    assert b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2]) == b"".join(content.chunks())
