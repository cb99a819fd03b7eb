"""The PROXY header: whom it is believed from, what it may say, and that TLS may follow it in one segment."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.settings import Limits, Listener
from relay.listener.client_identity import Origin, ProxyFault, read_header
from relay.listener.session_limits import SessionLimits
from tests.dialogs.listener.listener_kit import HELLO, MAIL, RCPT, TEXT, Door, certificate, door, on_both_loops, within
from tests.dialogs.listener.tls_kit import HandClient
from tests.peers.rows import each_row
from tests.peers.told import capture_logs

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOOPBACK = (IPv4Network("127.0.0.0/8"),)
ELSEWHERE = (IPv4Network("192.0.2.0/24"),)
OFFICE = (IPv4Network("10.1.0.0/16"),)
FROM_OFFICE = b"PROXY TCP4 10.1.0.9 192.0.2.1 4711 25\r\n"


def v2(command: int, family: int, addresses: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(addresses)) + addresses


def v2_from(address: str, extra: bytes = b"") -> bytes:
    packed = ip_address(address).packed
    return v2(1, 0x11 if len(packed) == 4 else 0x21, packed * 2 + struct.pack("!HH", 4711, 25) + extra)


async def read(octets: bytes, *, ends: bool = True) -> tuple[Origin | None, bytes]:
    reader = asyncio.StreamReader()
    reader.feed_data(octets)
    if ends:
        reader.feed_eof()
    origin = await read_header(reader, 0.05)
    reader.feed_eof()
    return origin, await reader.read()


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (FROM_OFFICE, "10.1.0.9"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 25\r\n", "2001:db8::9"),
        (b"PROXY TCP6 ::ffff:10.1.0.9 ::1 4711 25\r\n", "10.1.0.9"),
        (b"PROXY UNKNOWN\r\n", ""),
        (b"PROXY UNKNOWN ffff:f...f:ffff 1 2 3\r\n", ""),
        (v2_from("10.1.0.9"), "10.1.0.9"),
        (v2_from("2001:db8::9", b"\x04\x00\x03abc"), "2001:db8::9"),
        (v2(1, 0x00, b""), ""),
        (v2(1, 0x12, bytes(12)), ""),  # a datagram
        (v2(1, 0x31, bytes(216)), ""),  # a unix socket
    ],
)
async def test_whom_a_proxy_speaks_for(header: bytes, address: str) -> None:
    origin = Origin(ip_address(address) if address else None, is_proxied=True)
    assert await read(header + b"EHLO x\r\n") == (origin, b"EHLO x\r\n")


async def test_a_proxy_that_speaks_for_itself() -> None:
    assert await read(v2(0, 0x00, b"") + b"QUIT") == (None, b"QUIT")


@each_row(
    "header",
    [
        b"",
        b"PRO",
        b"EHLO client.example\r\n",
        b"PROXY\r\n",
        b"PROXY TCP4 10.1.0.9 192.0.2.1 4711 25\n",
        b"PROXY TCP4 10.1.0.9\r\n",
        b"PROXY TCP4 10.1.0.999 192.0.2.1 4711 25\r\n",
        b"PROXY TCP4 2001:db8::9 192.0.2.1 4711 25\r\n",
        b"PROXY UDP4 10.1.0.9 192.0.2.1 4711 25\r\n",
        b"PROXY TCP4 10.1.0.9 192.0.2.1 4711 25 more\r\n",
        b"PROXY TCP4 10.1.0.9 192.0.2.1 4711 99999\r\n",
        b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
        b"PROXY " + b"x" * 70_000,
        SIGNATURE,
        SIGNATURE[:-1] + b"x" + bytes(4),
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        v2(1, 0x11, bytes(11)),
        v2(1, 0x11, bytes(12))[:-1],
        v2(1, 0x44, bytes(12)),
    ],
)
async def test_what_is_no_header(header: bytes) -> None:
    with pytest.raises(ProxyFault):
        await read(header)


@pytest.mark.parametrize("header", [b"", b"PROXY TCP4 10.1", SIGNATURE, v2(1, 0x11, bytes(12))[:-1]])
async def test_a_header_must_come_soon(header: bytes) -> None:
    with pytest.raises(ProxyFault, match=r"^none came within 0\.05 s$"):
        await read(header, ends=False)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda rest: SIGNATURE + rest)))
def test_any_octets_are_a_header_or_a_fault(octets: bytes) -> None:
    async def try_it() -> None:
        with contextlib.suppress(ProxyFault):
            await read(octets)

    asyncio.run(try_it())


@asynccontextmanager
async def proxy_door(
    security: str = "none",
    limits: Limits | None = None,
    notice: float = 10.0,
    proxy_seconds: float = 10.0,
    **keys: object,
) -> AsyncIterator[Door]:
    session_limits = SessionLimits(proxy_seconds=proxy_seconds, notice=notice, lull=0.1)
    settings = {"trusted_networks": OFFICE, "proxy_networks": LOOPBACK, **keys}
    listener = Listener(address="127.0.0.1:0", security=security, proxy_protocol=True, **settings)  # type: ignore[arg-type]
    with certificate() as pair:
        async with door(listener, limits=limits, session_limits=session_limits, certificate=pair) as relay:
            yield relay


@pytest.mark.parametrize("header", [FROM_OFFICE, v2_from("10.1.0.9")], ids=["v1", "v2"])
@on_both_loops
async def test_the_client_is_whom_the_proxy_names(header: bytes) -> None:
    async with proxy_door() as relay, relay.client() as client:
        await client.send(header, HELLO, MAIL, RCPT, b"DATA\r\n")
        assert [(await client.reply())[:3] for _ in range(5)] == ["220", "250", "250", "250", "354"]
        assert (await client.ask(TEXT, b".\r\n"))[:3] == "250"
        handed = relay.acceptance.messages[0]
        assert (handed.client.name, handed.client.is_trusted, handed.arrival.peer) == ("10.1.0.9", True, "10.1.0.9")


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"PROXY TCP4 10.2.0.9 192.0.2.1 1 2\r\n", v2(0, 0, b"")])
async def test_nobody_else_is_trusted(header: bytes) -> None:
    """The proxy itself, which LOCAL is about, comes from no trusted network here either."""
    async with proxy_door() as relay, relay.client() as client:
        await client.send(header, HELLO, MAIL)
        assert [(await client.reply())[:3] for _ in range(3)] == ["220", "250", "530"]


async def test_from_any_other_address_no_header_is_read() -> None:
    with capture_logs() as lines:
        async with proxy_door(proxy_networks=ELSEWHERE) as relay, relay.client() as client:
            assert (await client.reply())[:3] == "220"
            assert (await client.ask(FROM_OFFICE))[:3] == "500"
            assert (await client.ask(HELLO))[:3] == "250"
            assert (await client.ask(MAIL))[:3] == "530"
    assert {line["client"] for line in lines} == {"127.0.0.1"}


@pytest.mark.parametrize("text", [HELLO, b"", b"GET / HTTP/1.1\r\n\r\n"])
async def test_without_a_header_there_is_no_session(text: bytes) -> None:
    with capture_logs() as lines:
        async with proxy_door(proxy_seconds=0.5) as relay, relay.client() as client:
            await client.send(text)
            assert (await client.line()).startswith("421 4.7.0 Connections from a proxy begin with a PROXY header")
            assert await client.line() == ""
            await relay.all_left()
    assert [(line["event"], line["at"]) for line in lines] == [("refused", "PROXY")]


async def test_connections_are_counted_for_whom_the_proxy_names() -> None:
    limits = Limits(connections_per_client=1)
    async with (
        proxy_door(trusted_networks=(), limits=limits) as relay,
        relay.client() as first,
        relay.client() as second,
        relay.client() as third,
    ):
        assert (await first.ask(FROM_OFFICE))[:3] == "220"
        assert (await second.ask(FROM_OFFICE)).startswith("421 4.7.0 Too many connections from this address")
        assert (await third.ask(v2_from("10.1.0.10")))[:3] == "220"


@on_both_loops
async def test_a_relay_that_rests_tells_the_check_of_its_proxy_first() -> None:
    check = v2(0, 0, b"")
    async with proxy_door() as relay, relay.client() as before:
        assert (await before.ask(FROM_OFFICE))[:3] == "220"
        relay.listeners.rest(is_wanted=True)
        async with relay.client() as proxy, relay.client() as client:
            assert (await proxy.ask(check)).startswith("421 4.3.2 ")
            assert (await client.ask(FROM_OFFICE))[:3] == "220", "whom it sent before it knew"
        assert (await before.ask(HELLO))[:3] == "250"
        relay.listeners.rest(is_wanted=False)
        async with relay.client() as proxy:
            assert (await proxy.ask(check))[:3] == "220"


@on_both_loops
async def test_when_the_proxy_has_had_time_everybody_is_turned_away() -> None:
    async with proxy_door(notice=0.1) as relay, relay.client() as before:
        assert (await before.ask(FROM_OFFICE))[:3] == "220"
        relay.listeners.rest(is_wanted=True)
        assert (await within(before.line())).startswith("421 4.3.2 ")
        async with relay.client() as late:
            assert (await late.line()).startswith("421 4.3.2 ")
        relay.listeners.rest(is_wanted=False)
        async with relay.client() as client:
            assert (await client.ask(FROM_OFFICE))[:3] == "220"


@pytest.mark.parametrize("header", [FROM_OFFICE, v2_from("10.1.0.9")], ids=["v1", "v2"])
@pytest.mark.parametrize("kind", ["one segment", "two segments", "octets"])
@on_both_loops
async def test_tls_may_follow_the_header(header: bytes, kind: str) -> None:
    async with proxy_door("tls") as relay, relay.client() as client:
        hand = HandClient(client)
        hello = hand.first_flight()
        parts = {"one segment": [header + hello], "two segments": [header, hello]}
        for part in parts.get(kind) or [bytes([octet]) for octet in header + hello]:
            await client.send(part)
        await client.send(await within(hand.hear()), hand.protect(HELLO + MAIL))
        lines = [await within(hand.line())]
        while len(lines) < 2 or lines[-1][:5] != "250 2":
            lines.append(await within(hand.line()))
        assert lines[0][:3] == "220"
        assert lines[-1] == "250 2.1.0 Ok"


@on_both_loops
async def test_starttls_may_follow_the_header() -> None:
    async with proxy_door("starttls") as relay, relay.client() as client:
        await client.send(FROM_OFFICE, HELLO)
        assert [(await client.reply())[:3] for _ in range(2)] == ["220", "250"]
        assert (await client.ask(b"STARTTLS\r\n"))[:3] == "220"
        hand = HandClient(client)
        await client.send(hand.first_flight())
        await client.send(await within(hand.hear()), hand.protect(HELLO))
        assert (await within(hand.line())).startswith("250-")


async def test_a_tls_listener_says_nothing_in_plain_to_a_bad_proxy() -> None:
    async with proxy_door("tls") as relay, relay.client() as client:
        await client.send(HELLO)
        assert await client.until_closed() == b""
