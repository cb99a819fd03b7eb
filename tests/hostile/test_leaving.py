"""A client that leaves at every possible octet: a message counts upstream exactly when all of it has come."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.hostile.house import JANE, house
from tests.hostile.line import Left, Line, line_to
from tests.peers.canaries import canary
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay
from tests.peers.system import LOOPBACK, free_port, private_folder, wait_until

pytestmark = pytest.mark.slow

_AT_ONCE = 16  # clients at the same time
_EHLO = b"EHLO a\r\n"
_AUTH = b"AUTH PLAIN " + b64encode(f"\0jane\0{canary('jane')}".encode()) + b"\r\n"
ENVELOPE = b"MAIL FROM:<%s>\r\nRCPT TO:<you@customer.example>\r\n" % JANE.encode()
KINDS = ("plain", "login", "chunks")


@dataclass(frozen=True)
class Scene:
    """A relay with a port for each security, and what it sends to."""

    relay: Relay
    wire: Recorder
    ports: dict[str, int]
    context: ssl.SSLContext

    def numbers(self, tag: str) -> list[int]:
        """The numbers of the messages with this tag that have arrived, once nobody is connected any more."""
        wait_until(lambda: not connections_to(set(self.ports.values())), "the end of every session", 30)
        subjects = [message.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode() for message in self.wire.messages]
        return sorted(int(subject.removeprefix(tag)) for subject in subjects if subject.startswith(tag))


def connections_to(ports: set[int]) -> int:
    """How many connections the kernel keeps open at these ports."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # proc_pid_net(5): the local address as hexadecimals, and the state: 0A listens, 06 waits for its time.
    return sum(int(row[1].partition(":")[2], 16) in ports and row[3] not in {"0A", "06"} for row in rows)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with private_folder("leaving") as folder, recorder_server() as wire:
        pair = folder / "pair.pem"
        pair.touch(mode=0o600)
        authority.issue_cert(LOOPBACK).private_key_and_cert_chain_pem.write_to_path(str(pair))
        ports = {security: free_port() for security in ("none", "starttls", "tls")}
        listeners = [{"name": name, "address": f"{LOOPBACK}:{port}", "security": name} for name, port in ports.items()]
        settings = {"listener": listeners, "tls": {"certificate": str(pair), "key": str(pair)}}
        with house(wire.port, settings, port=ports["none"], logins=["jane"]) as relay:
            yield Scene(relay, wire, ports, context)
            assert '"broken"' not in relay.log


def session(kind: str, subject: str) -> bytes:
    """Everything that a client says in one session of this kind."""
    text = f"Subject: {subject}\r\n\r\nx\r\n".encode()
    data = b"DATA\r\n" + text + b".\r\n"
    chunks = b"BDAT 7\r\n" + text[:7] + b"BDAT %d LAST\r\n" % (len(text) - 7) + text[7:]
    return {
        "plain": _EHLO + ENVELOPE + data,
        "login": _EHLO + _AUTH + ENVELOPE + data,
        "chunks": _EHLO + ENVELOPE + chunks,
    }[kind]


async def of_each(cuts: Sequence[int], leave: Callable[[int], Awaitable[None]]) -> None:
    """Let a client leave at each of these octets, some at the same time."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(cut: int) -> None:
        async with turns:
            await leave(cut)

    await asyncio.gather(*map(one, cuts))


@pytest.mark.parametrize("kind", KINDS)
async def test_who_says_no_more_after_an_octet_has_sent_a_message_or_nothing(kind: str, scene: Scene) -> None:
    """It stops sending and listens, as nc does: whoever has said everything gets its answer, and nobody else."""
    tag = f"half {kind} "
    whole = len(session(kind, f"{tag}0000"))
    told: list[int] = []

    async def leave(cut: int) -> None:
        async with line_to(scene.ports["none"]) as line:
            await line.send(session(kind, f"{tag}{cut:04}")[:cut])
            line.half_close()
            if b"250 2.0.0 Ok: delivered" in await line.rest():
                told.append(cut)

    await of_each(range(whole + 1), leave)
    assert scene.numbers(tag) == told == [whole]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [Line.close, Line.reset], ids=["close", "reset"])
async def test_who_is_gone_after_an_octet_has_sent_nothing_by_halves(
    way: Callable[[Line], None], kind: str, scene: Scene
) -> None:
    tag = f"{way.__name__} {kind} "
    whole = len(session(kind, f"{tag}0000"))

    async def leave(cut: int) -> None:
        line = await Line.connect(scene.ports["none"])
        await line.send(session(kind, f"{tag}{cut:04}")[:cut])
        way(line)

    await of_each(range(whole + 1), leave)
    # One that said everything may be gone before our final dot, which ends the attempt.
    assert scene.numbers(tag) in ([], [whole])


async def under_tls(line: Line, context: ssl.SSLContext, subject: str, *, starts: bool) -> str:
    """A whole session; return the answer to the message."""
    if starts:
        await line.reply()
        await line.ask(_EHLO)
        await line.ask(b"STARTTLS\r\n")
    await line.start_tls(context)
    if not starts:
        await line.reply()
    for command in (_EHLO, _AUTH, *ENVELOPE.splitlines(keepends=True), b"DATA\r\n"):
        await line.ask(command)
    return await line.ask(f"Subject: {subject}\r\n\r\nx\r\n.\r\n".encode())


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_who_is_gone_after_an_octet_of_tls_has_sent_nothing_by_halves(security: str, scene: Scene) -> None:
    """The octets are those on the network: a handshake, and records that are cut anywhere."""
    tag, starts = f"{security} ", security == "starttls"
    async with line_to(scene.ports[security]) as line:
        answer = await under_tls(line, scene.context, f"{tag}0000", starts=starts)
        assert answer.startswith("250 2.0.0 Ok: delivered")
        whole = line.sent

    async def leave(cut: int) -> None:
        async with line_to(scene.ports[security], budget=cut) as line:
            with pytest.raises((Left, ConnectionError)):
                await under_tls(line, scene.context, f"{tag}{cut:04}", starts=starts)

    await of_each(range(whole), leave)
    assert scene.numbers(tag) == [0]
