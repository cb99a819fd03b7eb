"""TLS at the door: from the first octet, or when the client asks for it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal

import pytest
import trustme

from relay.config.settings import Limits, Listener
from relay.listener.session_limits import SessionLimits
from relay.listener.tls import LiveCertificate
from tests.dialogs.listener.listener_kit import (
    HELLO,
    MAIL,
    RCPT,
    TEXT,
    Door,
    RawClient,
    certificate,
    door,
    on_both_loops,
    trusting_context,
    within,
)
from tests.dialogs.listener.tls_kit import HandClient, write_pair
from tests.peers.told import capture_logs

STARTTLS = b"STARTTLS\r\n"
KINDS = pytest.mark.parametrize("security", ["starttls", "tls"])


@asynccontextmanager
async def tls_door(
    security: str, *, limits: Limits | None = None, session_limits: SessionLimits | None = None
) -> AsyncIterator[Door]:
    listener = Listener(address="127.0.0.1:0", security="tls" if security == "tls" else "starttls")
    with certificate() as pair:
        async with door(listener, limits=limits, session_limits=session_limits, certificate=pair) as relay:
            yield relay


@asynccontextmanager
async def before_tls(relay: Door, security: str, address: str = "") -> AsyncIterator[RawClient]:
    """A client whose next octet belongs to TLS."""
    async with relay.client(address) as client:
        if security == "starttls":
            await client.begin()
            assert await client.ask(STARTTLS) == "220 2.0.0 Ready to start TLS"
        yield client


@asynccontextmanager
async def under_tls(relay: Door, security: str) -> AsyncIterator[RawClient]:
    if security == "tls":
        async with relay.client(tls=trusting_context()) as client:
            await client.begin()
            yield client
        return
    async with before_tls(relay, security) as client:
        await client.start_tls(trusting_context())
        assert (await client.ask(HELLO))[:3] == "250"
        yield client


def refusals(lines: Iterable[Mapping[str, object]]) -> list[tuple[object, object]]:
    return [(line["at"], line["reason"]) for line in lines if line["event"] == "refused"]


@KINDS
@on_both_loops
async def test_messages_come_in_under_tls(security: str) -> None:
    large = b"Subject: Large\r\n\r\n" + (b"x" * 1000 + b"\r\n") * 3000
    async with tls_door(security) as relay, under_tls(relay, security) as client:
        for text in (TEXT, large):
            await client.send(MAIL, RCPT, b"DATA\r\n", text, b".\r\n")
            assert [(await client.reply())[:3] for _ in range(4)] == ["250", "250", "354", "250"]
        assert (await client.ask(b"QUIT\r\n"))[:3] == "221"
        assert await client.line() == ""
        assert [handed.content for handed in relay.acceptance.messages] == [TEXT, large]
        assert relay.acceptance.messages[0].arrival.protocol == "ESMTPS"
        await relay.all_left()


@KINDS
async def test_starttls_is_offered_once(security: str) -> None:
    async with tls_door(security) as relay, under_tls(relay, security) as client:
        await client.send(HELLO)
        while (line := await client.line())[3:4] == "-":
            assert "STARTTLS" not in line
        assert (await client.ask(STARTTLS)).startswith("503 5.5.1 ")
        assert (await client.ask(b"NOOP\r\n"))[:3] == "250"


async def test_starttls_has_no_argument_and_is_for_listeners_with_a_certificate() -> None:
    async with tls_door("starttls") as relay, relay.client() as client:
        await client.begin()
        assert (await client.ask(b"STARTTLS now\r\n")).startswith("501 5.5.4 ")
    async with door() as relay, relay.client() as client:
        await client.begin()
        assert (await client.ask(STARTTLS)).startswith("502 5.5.1 ")


@on_both_loops
async def test_what_was_said_before_tls_is_forgotten() -> None:
    async with tls_door("starttls") as relay, relay.client() as client:
        await client.begin(MAIL, RCPT)
        assert (await client.ask(STARTTLS))[:3] == "220"
        await client.start_tls(trusting_context())
        assert (await client.ask(b"DATA\r\n")).startswith("503 5.5.1 Send EHLO first")
        assert (await client.ask(MAIL)).startswith("503 5.5.1 Send EHLO first")
        assert [(await client.ask(part))[:3] for part in (HELLO, MAIL, RCPT)] == ["250"] * 3


@pytest.mark.parametrize("injected", [b"NOOP\r\n", HELLO + MAIL + RCPT, b"QUIT\r\n", b"x" * 300_000])
@on_both_loops
async def test_what_comes_with_starttls_in_plain_is_dropped(injected: bytes) -> None:
    """RFC 3207 section 4.2; CVE-2011-0411: an attacker in the middle may put commands behind STARTTLS."""
    async with tls_door("starttls") as relay, relay.client() as client:
        await client.begin()
        client.writer.write(STARTTLS + injected)
        assert (await client.reply())[:3] == "220"
        if len(injected) < 1000:
            await client.start_tls(trusting_context())
            assert (await client.ask(b"VRFY a\r\n"))[:3] == "252"
            assert (await client.ask(MAIL))[:3] == "503"
        else:
            # The rest arrives while TLS begins, and is no TLS.
            assert await _plain_rest(client) == b""


@on_both_loops
async def test_what_comes_in_plain_after_our_220_is_no_tls() -> None:
    with capture_logs() as lines:
        async with tls_door("starttls") as relay, before_tls(relay, "starttls") as client:
            await client.send(b"MAIL FROM:<support@acmejets.example>\r\n")
            assert await _plain_rest(client) == b""
            await relay.all_left()
    assert [at for at, _ in refusals(lines)] == ["TLS"]


async def _plain_rest(client: RawClient) -> bytes:
    """Return what a server says in plain until it closes; a TLS alert is not plain."""
    try:
        rest = await client.until_closed()
    except ConnectionError:
        return b""
    return b"" if rest[:1] == b"\x15" else rest


@KINDS
@on_both_loops
async def test_a_handshake_octet_by_octet(security: str) -> None:
    async with tls_door(security) as relay, before_tls(relay, security) as client:
        hand = HandClient(client)
        for octet in hand.first_flight():
            await client.send(bytes([octet]))
        for octet in await within(hand.hear()) + hand.protect(HELLO):
            await client.send(bytes([octet]))
        if security == "tls":
            assert (await within(hand.line()))[:3] == "220"
        assert (await within(hand.line())).startswith("250-relay.example")


@KINDS
async def test_a_client_may_leave_after_each_octet_of_the_handshake(security: str) -> None:
    with capture_logs() as lines:
        async with tls_door(security) as relay:
            hello = HandClient(RawClient(asyncio.StreamReader(), None)).first_flight()  # type: ignore[arg-type]
            for end in range(0, len(hello), 7):
                async with before_tls(relay, security) as client:
                    await client.send(hello[:end])
            await relay.all_left()
            assert relay.listeners.connections == 0
    assert {line["log_level"] for line in lines} == {"info"}


@KINDS
async def test_a_client_may_leave_after_each_octet_of_its_second_flight(security: str) -> None:
    with capture_logs() as lines:
        async with tls_door(security) as relay:
            for end in range(0, 80, 5):
                async with before_tls(relay, security) as client:
                    hand = HandClient(client)
                    await client.send(hand.first_flight())
                    await client.send((await within(hand.hear()) + hand.protect(HELLO))[:end])
            await relay.all_left()
            assert relay.listeners.connections == 0
    assert {line["log_level"] for line in lines} <= {"info"}


@KINDS
@pytest.mark.parametrize(
    "text", [b"EHLO client.example\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\x16\x03\x01\xff"]
)
@on_both_loops
async def test_who_does_not_speak_tls_is_left_quietly(security: str, text: bytes) -> None:
    session_limits = SessionLimits(handshake_seconds=0.3)
    with capture_logs() as lines:
        async with tls_door(security, session_limits=session_limits) as relay, before_tls(relay, security) as client:
            await client.send(text)
            assert await _plain_rest(client) == b""
            await relay.all_left()
    assert [at for at, _ in refusals(lines)] == ["TLS"]
    assert {line["log_level"] for line in lines} == {"info"}


@KINDS
@on_both_loops
async def test_a_handshake_that_never_ends_is_ended(security: str) -> None:
    session_limits = SessionLimits(handshake_seconds=0.1)
    async with tls_door(security, session_limits=session_limits) as relay, before_tls(relay, security) as client:
        assert await client.until_closed() == b""
        await relay.all_left()


async def test_a_handshake_under_way_counts_as_a_connection() -> None:
    async with tls_door("tls", limits=Limits(connections=1)) as relay, relay.client() as silent:
        async with relay.client() as second:
            assert await second.until_closed() == b""
        await silent.close()
        await relay.all_left()
        async with under_tls(relay, "tls") as client:
            assert (await client.ask(b"NOOP\r\n"))[:3] == "250"


@KINDS
@on_both_loops
async def test_stopping_ends_a_handshake_under_way(security: str) -> None:
    async with tls_door(security) as relay, before_tls(relay, security) as client, under_tls(relay, security) as idle:
        await client.send(b"\x16")
        await within(relay.listeners.stop(patience=5))
        assert await _plain_rest(client) == b""
        assert (await idle.line()).startswith("421 4.3.2 ")
        assert relay.listeners.connections == 0


@KINDS
@on_both_loops
async def test_a_client_that_leaves_without_a_good_bye_under_tls_is_gone(security: str) -> None:
    with capture_logs() as lines:
        async with tls_door(security) as relay:
            async with under_tls(relay, security) as client:
                await client.ask(MAIL)
                client.writer.transport.abort()
            await relay.all_left()
    assert [line for line in lines if line["log_level"] != "info"] == []


@on_both_loops
async def test_a_silent_client_under_tls_is_sent_away() -> None:
    async with (
        tls_door("tls", session_limits=SessionLimits(idle_seconds=1.0)) as relay,
        under_tls(relay, "tls") as client,
    ):
        assert (await client.line()).startswith("421 4.4.2 ")
        assert await client.line() == ""


def test_tls_is_1_2_or_later() -> None:
    with certificate() as pair:
        context = pair.context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@on_both_loops
async def test_each_version_of_tls(version: ssl.TLSVersion) -> None:
    context = trusting_context()
    context.minimum_version = context.maximum_version = version
    async with tls_door("tls") as relay, relay.client(tls=context) as client:
        await client.begin(MAIL)


@contextmanager
def old_context() -> Iterator[ssl.SSLContext]:
    """What a device uses that knows nothing later than TLS 1.0."""
    context = trusting_context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1
    yield context


@pytest.mark.parametrize("security", ["starttls", "tls"])
@on_both_loops
async def test_an_old_device_is_protected_by_tls_1_0_where_devices_are_and_nowhere_else(
    security: Literal["starttls", "tls"],
) -> None:
    at = {
        name: Listener(address="127.0.0.1:0", security=security, devices=name == "devices") for name in ("devices", "x")
    }
    with certificate() as pair, old_context() as context:
        async with door(*at.values(), certificate=pair) as relay:
            devices, others = relay.listeners.addresses
            for address in (devices, others):
                async with before_tls(relay, security, address) as client:
                    if address == devices:
                        await client.start_tls(context)
                        assert client.writer.get_extra_info("ssl_object").version() == "TLSv1"
                        if security == "tls":
                            assert (await client.reply())[:3] == "220"
                        for line in (HELLO, b"MAIL FROM:support@acmejets.example\r\n"):
                            assert (await client.ask(line))[:3] == "250"
                    else:
                        with pytest.raises((ssl.SSLError, ConnectionError)):
                            await client.start_tls(context)


async def test_a_new_certificate_is_in_effect_at_once_and_a_broken_one_never(tmp_path: Path) -> None:
    first, second = trustme.CA(), trustme.CA()
    files = write_pair(tmp_path, first.issue_cert("127.0.0.1"))
    listener = Listener(address="127.0.0.1:0", security="tls")
    with capture_logs() as lines:
        async with door(listener, certificate=LiveCertificate(files)) as relay:
            assert await _is_trusted(relay, first)
            files.key.write_text("no key")
            assert [await _is_trusted(relay, first) for _ in range(3)] == [True] * 3
            files.key.unlink()
            assert await _is_trusted(relay, first)
            write_pair(tmp_path, second.issue_cert("127.0.0.1"))
            assert await _is_trusted(relay, second)
            assert not await _is_trusted(relay, first)
    assert [line["event"] for line in lines if line["event"] != "refused"] == ["broken", "broken", "changed"]
    assert "no key" not in str(lines)


async def _is_trusted(relay: Door, authority: trustme.CA) -> bool:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    try:
        async with relay.client(tls=context) as client:
            return (await client.reply())[:3] == "220"
    except ssl.SSLCertVerificationError:
        return False
