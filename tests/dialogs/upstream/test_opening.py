"""Opening a connection: every way in which a server can go wrong before MAIL, and that nothing is ever sent in clear
that should not be.
"""

import asyncio
import base64
import socket
from typing import Any

import pytest

from relay.directory.model import Auth, Meaning, Security
from relay.secrets.secret import Secret
from relay.upstream.connection import Connection
from relay.upstream.dial import Contexts
from relay.upstream.dialog import transact
from relay.upstream.outcome import Failed, Failure, Phase
from relay.upstream.transaction import Offers
from tests.dialogs.upstream.upstream_kit import (
    FAST,
    SECRET,
    SILENCE,
    Certificates,
    Drop,
    Line,
    ScriptedServer,
    scripted,
    server_at,
    transfer_to,
    until,
)

pytestmark = pytest.mark.timeout(60)


def connection_to(server: ScriptedServer, **changes: Any) -> Connection:
    return Connection(server_at(server.port, **changes), hello="relay.example", timeouts=FAST, contexts=Contexts())


async def failure_at_opening(server: ScriptedServer, **changes: Any) -> Failure:
    connection = connection_to(server, **changes)
    with pytest.raises(Failed) as caught:
        await connection.open("mailer", SECRET)
    await connection.close()
    assert not connection.is_usable
    return caught.value.failure


async def opened(server: ScriptedServer, **changes: Any) -> Connection:
    connection = connection_to(server, **changes)
    await connection.open("mailer", SECRET)
    return connection


async def endless(line: Line) -> None:
    while not line.writer.is_closing():
        await line.send(b"250-" + b"x" * 1000 + b"\r\n")


GREETINGS = [
    (b"421 4.3.2 too busy\r\n", Phase.GREETING, "421 4.3.2 too busy", Meaning.TEMPORARY),
    (b"554 5.7.1 go away\r\n", Phase.GREETING, "554 5.7.1 go away", Meaning.TEMPORARY),
    (b"hello\r\n", Phase.GREETING, "451 4.5.0", Meaning.TEMPORARY),
    (b"354 go on\r\n", Phase.GREETING, "451 4.5.0", Meaning.TEMPORARY),
    (b"999 odd\r\n", Phase.GREETING, "451 4.5.0", Meaning.TEMPORARY),
    (SILENCE, Phase.GREETING, "451 4.4.2", Meaning.TEMPORARY),
    (Drop(), Phase.GREETING, "451 4.4.2", Meaning.TEMPORARY),
    (Drop(b"220-half a gr"), Phase.GREETING, "451 4.4.2", Meaning.TEMPORARY),
]


@pytest.mark.parametrize(("answer", "phase", "reply", "meaning"), GREETINGS)
async def test_a_greeting_that_is_none(answer: Any, phase: Phase, reply: str, meaning: Meaning) -> None:
    async with scripted(answers={"greeting": answer}) as server:
        failure = await failure_at_opening(server)
        assert (failure.phase, failure.meaning) == (phase, meaning)
        assert str(failure.reply).startswith(reply)
        assert "MAIL" not in server.verbs[0]


ONE_TOO_MANY = b"250-ok\r\n250 AUTH PLAIN\r\n250 and more\r\n"
EHLO_ANSWERS = [
    (b"502 5.5.1 what?\r\n", "502 5.5.1 what?", Meaning.TEMPORARY),
    (b"421 4.7.0 not now\r\n", "421 4.7.0 not now", Meaning.THROTTLE),
    (b"garbage\r\n", "451 4.5.0", Meaning.TEMPORARY),
    (ONE_TOO_MANY, "451 4.5.0", Meaning.TEMPORARY),
    (b"250-never\r\n250-ending\r\n", "451 4.4.2", Meaning.TEMPORARY),
    (endless, "451 4.5.0", Meaning.TEMPORARY),
    (b"250 " + b"x" * 20_000 + b"\r\n", "451 4.5.0", Meaning.TEMPORARY),
    (SILENCE, "451 4.4.2", Meaning.TEMPORARY),
    (Drop(), "451 4.4.2", Meaning.TEMPORARY),
]


@pytest.mark.parametrize(("answer", "reply", "meaning"), EHLO_ANSWERS, ids=range(len(EHLO_ANSWERS)))
async def test_an_ehlo_that_goes_wrong(answer: Any, reply: str, meaning: Meaning) -> None:
    async with scripted(answers={"EHLO": answer}) as server:
        failure = await failure_at_opening(server, auth=Auth.PLAIN)
        assert failure.phase is Phase.EHLO
        assert str(failure.reply).startswith(reply)
        assert failure.meaning is meaning
        assert "AUTH" not in server.verbs[0]


async def test_what_ehlo_offers_is_read_leniently() -> None:
    async with scripted(offers=("size", "8bitmime", "auth=LOGIN", "AUTH login plain", "X-ODD  a  b", "")) as server:
        connection = await opened(server)
        assert connection.offers.size == 0
        assert connection.offers.has("8bitmime")
        assert set(connection.offers.mechanisms) == {"login", "plain"}
        assert server.commands[0] == ["EHLO relay.example"]
        await connection.close()
        assert server.commands[0][-1] == "QUIT"


@pytest.mark.parametrize("size", ["SIZE x", "SIZE -5", "SIZE " + "9" * 5000, "SIZE ²", "SIZE 1 2"])
async def test_a_size_that_is_no_number_is_no_limit(size: str) -> None:
    async with scripted(offers=(size,)) as server:
        connection = await opened(server)
        assert connection.offers.size == 0
        await connection.close()


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    failure = await failure_at_opening(ScriptedServer(port=port))
    assert (failure.phase, failure.reply.enhanced, failure.meaning) == (Phase.CONNECT, "4.4.1", Meaning.TEMPORARY)
    assert failure.detail == f"connection refused by 127.0.0.1 port {port}"


async def test_the_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    failure = await failure_at_opening(ScriptedServer(port=25), host="no.such.example")
    assert (failure.phase, failure.reply.enhanced, failure.meaning) == (Phase.RESOLVE, "4.4.3", Meaning.TEMPORARY)
    assert failure.detail == "the name no.such.example does not exist"


# ---- HELO


@pytest.mark.parametrize("said", [b"500 5.5.2 what?", b"501 syntax", b"502 no", b"504 no", b"554 5.5.1 no"])
async def test_a_server_without_ehlo_is_greeted_in_the_old_way(said: bytes) -> None:
    """RFC 5321 section 3.2. Nothing is offered then, and the message goes out in its plainest form."""
    async with scripted(answers={"EHLO": said + b"\r\n", "HELO": b"250 old.example\r\n"}) as server:
        connection = await opened(server)
        assert server.commands[0] == ["EHLO relay.example", "HELO relay.example"]
        assert connection.offers == Offers()
        outcome = await transact(connection, transfer_to(connection.server))
        assert outcome.accepted
        assert server.commands[0][2:] == [
            "MAIL FROM:<support@acme.example>",
            "RCPT TO:<jo@there.example>",
            "DATA",
        ]
        await connection.close()


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        (b"550 5.0.0 not you", "550 5.0.0 not you"),
        (b"521 no mail here", "521 5.0.0 no mail here"),
        (b"530 5.7.0 login first", "530 5.7.0 login first"),
        (b"554 5.7.1 not you", "554 5.7.1 not you"),
        (b"421 4.3.2 stopping", "421 4.3.2 stopping"),
        (b"450 4.3.2 later", "450 4.3.2 later"),
    ],
)
async def test_who_is_not_wanted_does_not_try_the_old_way(said: bytes, reply: str) -> None:
    async with scripted(answers={"EHLO": said + b"\r\n"}) as server:
        failure = await failure_at_opening(server)
        assert (failure.phase, str(failure.reply)) == (Phase.EHLO, reply)
        assert "HELO" not in server.verbs[0]


@pytest.mark.parametrize(
    "needs",
    [{"auth": Auth.PLAIN}, {"auth": Auth.AUTO}, {"security": Security.STARTTLS}],
    ids=["plain", "auto", "starttls"],
)
async def test_where_tls_or_a_login_is_needed_there_is_no_old_way(needs: dict[str, Any]) -> None:
    async with scripted(answers={"EHLO": b"502 5.5.1 what?\r\n"}) as server:
        failure = await failure_at_opening(server, **needs)
        assert (failure.phase, str(failure.reply)) == (Phase.EHLO, "502 5.5.1 what?")
        assert "HELO" not in server.verbs[0]


async def test_the_old_way_can_fail_too() -> None:
    async with scripted(answers={"EHLO": b"500 what?\r\n", "HELO": b"550 5.7.1 nor you\r\n"}) as server:
        failure = await failure_at_opening(server)
        assert (failure.phase, failure.meaning) == (Phase.EHLO, Meaning.TEMPORARY)
        assert str(failure.reply) == "550 5.7.1 nor you"


# ---- TLS


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
async def test_a_checked_connection(certificates: Certificates, security: Security) -> None:
    implicit = security is Security.TLS
    async with scripted(tls=certificates.good, implicit=implicit, offers=("STARTTLS", "AUTH PLAIN")) as server:
        ca_file = certificates.ca_file
        connection = await opened(server, security=security, ca_file=ca_file, auth=Auth.PLAIN, host="localhost")
        assert connection.tls is not None
        assert connection.tls.version in {"TLSv1.2", "TLSv1.3"}
        assert connection.tls.cipher
        assert connection.certificate
        starttls = [] if implicit else ["EHLO", "STARTTLS"]
        assert server.verbs[0] == [*starttls, "EHLO", "AUTH"]
        await connection.close()
        assert server.verbs[0][-1] == "QUIT"


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
@pytest.mark.parametrize("which", ["wrong_name", "unknown", "old"])
async def test_a_certificate_or_version_that_is_not_good(
    certificates: Certificates, security: Security, which: str
) -> None:
    tls = getattr(certificates, which)
    async with scripted(tls=tls, implicit=security is Security.TLS, offers=("STARTTLS", "AUTH PLAIN")) as server:
        failure = await failure_at_opening(server, security=security, ca_file=certificates.ca_file, auth=Auth.PLAIN)
        assert (failure.phase, failure.reply.enhanced) == (Phase.STARTTLS, "4.7.5")
        assert failure.meaning is Meaning.TEMPORARY
        assert "AUTH" not in [verb for verbs in server.verbs for verb in verbs]
        assert all(len(line.commands) <= 2 for line in server.lines)


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
@pytest.mark.parametrize("which", ["wrong_name", "unknown"])
async def test_verify_off_takes_any_certificate(certificates: Certificates, security: Security, which: str) -> None:
    tls = getattr(certificates, which)
    async with scripted(tls=tls, implicit=security is Security.TLS, offers=("STARTTLS",)) as server:
        connection = await opened(server, security=security, verify_tls=False)
        assert connection.tls is not None
        await connection.close()


STARTTLS_FAULTS = [
    ({"offers": ("AUTH PLAIN",)}, "451 4.7.4"),
    ({"answers": {"STARTTLS": b"454 4.7.0 not now\r\n"}}, "454 4.7.0 not now"),
    ({"answers": {"STARTTLS": b"502 5.5.1 what?\r\n"}}, "502 5.5.1 what?"),
    ({"answers": {"STARTTLS": b"421 4.3.2 stopping\r\n"}}, "421 4.3.2 stopping"),
    ({"answers": {"STARTTLS": b"220 go on\r\n250-not tls\r\n250 AUTH PLAIN\r\n"}}, "451 4.7.5"),
    ({"answers": {"STARTTLS": Drop()}}, "451 4.7.5"),
    ({"answers": {"STARTTLS": Drop(b"220 go on\r\n")}}, "451 4.7.5"),
    ({"answers": {"STARTTLS": SILENCE}}, "451 4.7.5"),
]


@pytest.mark.parametrize(("given", "reply"), STARTTLS_FAULTS, ids=range(len(STARTTLS_FAULTS)))
async def test_without_starttls_nothing_is_said(certificates: Certificates, given: Any, reply: str) -> None:
    defaults: dict[str, Any] = {"offers": ("STARTTLS", "AUTH PLAIN")}
    async with scripted(**defaults | given) as server:
        failure = await failure_at_opening(
            server, security=Security.STARTTLS, ca_file=certificates.ca_file, auth=Auth.PLAIN
        )
        assert failure.phase is Phase.STARTTLS
        assert str(failure.reply).startswith(reply)
        assert failure.meaning in {Meaning.TEMPORARY, Meaning.THROTTLE}
        assert set(server.verbs[0]) <= {"EHLO", "STARTTLS", "QUIT"} or not server.lines[0].is_encrypted
        assert "AUTH" not in server.verbs[0]
        assert "MAIL" not in server.verbs[0]


async def test_what_comes_in_clear_behind_the_220_is_not_believed(certificates: Certificates) -> None:
    """GHSA-vxj7-4xrp-5vr4: answers put into the clear part by someone between, meant to be read within TLS."""

    async def inject(line: Line) -> None:
        await line.send(b"220 go on\r\n250-evil.example\r\n250 AUTH LOGIN\r\n")
        await line.start_tls()

    async with scripted(
        tls=certificates.good,
        answers={"STARTTLS": inject},
        offers=("STARTTLS",),
        offers_in_tls=("AUTH PLAIN",),
    ) as server:
        connection = await opened(server, security=Security.STARTTLS, ca_file=certificates.ca_file, auth=Auth.AUTO)
        assert connection.offers.mechanisms == ("plain",)
        assert server.lines[0].is_encrypted
        await connection.close()


async def test_what_was_offered_before_tls_is_forgotten(certificates: Certificates) -> None:
    async with scripted(
        tls=certificates.good, offers=("STARTTLS", "AUTH PLAIN", "8BITMIME"), offers_in_tls=()
    ) as server:
        failure = await failure_at_opening(
            server, security=Security.STARTTLS, ca_file=certificates.ca_file, auth=Auth.PLAIN
        )
        assert (failure.phase, failure.meaning) == (Phase.LOGIN, Meaning.LOGIN_REFUSED)
        assert "no login at all" in failure.detail


async def test_a_ca_file_that_is_not_there(certificates: Certificates) -> None:
    async with scripted(tls=certificates.good, offers=("STARTTLS",)) as server:
        failure = await failure_at_opening(server, security=Security.STARTTLS, ca_file="/no/such/ca.pem")
        assert failure.phase is Phase.STARTTLS
        assert "/no/such/ca.pem" in failure.detail
        assert "/no" not in str(failure.reply)


# ---- login

LOGIN_ANSWERS = [
    ("AUTH", b"535 5.7.8 bad credentials\r\n", "535 5.7.8 bad credentials", Meaning.LOGIN_REFUSED),
    ("AUTH", b"535-5.7.3 no\r\n535 5.7.3 really\r\n", "535 5.7.3 no really", Meaning.LOGIN_REFUSED),
    ("AUTH", b"454 4.7.0 later\r\n", "454 4.7.0 later", Meaning.TEMPORARY),
    ("AUTH", b"421 4.7.0 too many\r\n", "421 4.7.0 too many", Meaning.THROTTLE),
    ("AUTH", b"334 \r\n", "451 4.5.0", Meaning.TEMPORARY),
    ("AUTH", b"noise\r\n", "451 4.5.0", Meaning.TEMPORARY),
    ("AUTH", Drop(), "451 4.4.2", Meaning.TEMPORARY),
    ("AUTH", Drop(b"421 4.7.0 too many\r\n"), "421 4.7.0 too many", Meaning.THROTTLE),
    ("AUTH", SILENCE, "451 4.4.2", Meaning.TEMPORARY),
]


@pytest.mark.parametrize(("key", "answer", "reply", "meaning"), LOGIN_ANSWERS, ids=range(len(LOGIN_ANSWERS)))
async def test_a_login_is_tried_once(key: str, answer: Any, reply: str, meaning: Meaning) -> None:
    async with scripted(answers={key: answer}) as server:
        failure = await failure_at_opening(server, auth=Auth.PLAIN)
        assert (failure.phase, failure.meaning) == (Phase.LOGIN, meaning)
        assert str(failure.reply).startswith(reply)
        assert server.verbs[0].count("AUTH") == 1
        assert len(server.lines) == 1


async def test_login_sends_name_and_password_each_alone() -> None:
    async with scripted(
        answers={"AUTH": b"334 VXNlcm5hbWU6\r\n", "auth": [b"334 UGFzc3dvcmQ6\r\n", b"235 in\r\n"]}
    ) as server:
        connection = await opened(server, auth=Auth.LOGIN)
        sent = [base64.b64decode(line).decode() for line in server.commands[0][2:]]
        assert server.commands[0][1] == "AUTH LOGIN"
        assert sent == ["mailer", SECRET.value]
        await connection.close()


async def test_cram_md5_answers_the_challenge() -> None:
    challenge = base64.b64encode(b"<1.2@scripted.example>")
    async with scripted(answers={"AUTH": b"334 " + challenge + b"\r\n"}) as server:
        connection = await opened(server, auth=Auth.AUTO)
        assert server.commands[0][1] == "AUTH CRAM-MD5"
        assert base64.b64decode(server.commands[0][2]).startswith(b"mailer ")
        await connection.close()


async def test_a_challenge_that_is_none() -> None:
    async with scripted(answers={"AUTH": b"334 abc\r\n"}) as server:
        failure = await failure_at_opening(server, auth=Auth.CRAM_MD5)
        assert (failure.phase, failure.reply.enhanced, failure.meaning) == (Phase.LOGIN, "4.5.0", Meaning.TEMPORARY)


async def test_the_mechanism_is_not_offered() -> None:
    async with scripted(offers=("AUTH LOGIN XOAUTH2",)) as server:
        failure = await failure_at_opening(server, auth=Auth.PLAIN)
        assert failure.meaning is Meaning.LOGIN_REFUSED
        assert failure.detail == "the server offers LOGIN XOAUTH2, and plain was to be used"
        assert not failure.from_server
        assert server.verbs[0] == ["EHLO"] or server.verbs[0] == ["EHLO", "QUIT"]


async def test_a_server_that_closes_after_ehlo_refuses_no_login() -> None:
    async with scripted(answers={"EHLO": Drop(b"250-hello\r\n250 AUTH PLAIN\r\n")}) as server:
        connection = connection_to(server, auth=Auth.PLAIN)
        await connection.connect(await connection.resolve())
        await connection.begin()
        await connection.hello()
        await until(lambda: not connection.is_usable)
        with pytest.raises(Failed) as caught:
            await connection.login("mailer", SECRET)
        assert (caught.value.failure.phase, caught.value.failure.meaning) == (Phase.LOGIN, Meaning.TEMPORARY)


@pytest.mark.parametrize("password", ["a\0b", "\udc80"])
async def test_a_password_that_cannot_be_told(password: str) -> None:
    async with scripted() as server:
        connection = connection_to(server, auth=Auth.PLAIN)
        with pytest.raises(Failed) as caught:
            await connection.open("mailer", Secret(password, "1"))
        assert (caught.value.failure.phase, caught.value.failure.reply.enhanced) == (Phase.LOGIN, "4.3.5")
        assert "AUTH" not in server.verbs[0]


async def test_no_password_is_no_login() -> None:
    async with scripted() as server:
        connection = connection_to(server, auth=Auth.PLAIN)
        with pytest.raises(Failed) as caught:
            await connection.open("mailer", None)
        assert caught.value.failure.meaning is Meaning.LOGIN_REFUSED
        await connection.close()
        assert "AUTH" not in server.verbs[0]


async def test_a_server_that_repeats_the_password_does_not_put_it_into_our_log() -> None:
    async def repeat(line: Line) -> None:
        await line.send(f"500 5.5.2 unknown: {line.commands[-1]} {SECRET.value}\r\n".encode())

    async def repeat_oddly(line: Line) -> None:
        await line.send(f"{line.commands[-1]}\r\n".encode())

    for answer in (repeat, repeat_oddly):
        async with scripted(answers={"AUTH": answer}) as server:
            failure = await failure_at_opening(server, auth=Auth.PLAIN)
            encoded = server.commands[0][1].split(" ")[2]
            assert encoded not in str(failure)
            assert SECRET.value not in str(failure)
            assert "***" in str(failure)


async def test_cancelling_while_opening_closes_the_connection() -> None:
    came = asyncio.Event()

    async def hang(line: Line) -> None:
        came.set()
        assert await line.reader.read() == b""

    async with scripted(answers={"EHLO": hang}) as server:
        connection = connection_to(server)
        task = asyncio.create_task(connection.open("mailer", SECRET))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not connection.is_usable
        await asyncio.wait_for(server.tasks[0], 20)
