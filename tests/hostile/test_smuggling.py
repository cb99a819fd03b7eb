"""SMTP smuggling through each way in: what looks like an end of data makes no second message, here or upstream."""

import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trustme

from tests.e2e.smuggled import ENDS, smuggling
from tests.hostile.house import JANE, house
from tests.hostile.line import Line, line_to
from tests.peers.postfix import Postfix
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.rows import each_row
from tests.peers.sink import Sink
from tests.peers.system import LOOPBACK, free_port, private_folder

# In a chunk even the true end is content: nobody looks at what is in it.
ENDS_IN_CHUNKS: dict[str, bytes] = {**ENDS, "crlf.crlf": b"\r\n.\r\n"}
ENVELOPE = f"MAIL FROM:<{JANE}>\r\nRCPT TO:<outer@customer.example>\r\n".encode()


@pytest.fixture(scope="module")
def wire() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def relay(wire: Recorder, authority: trustme.CA) -> Iterator[Relay]:
    with private_folder("smuggling") as folder:
        pair = folder / "pair.pem"
        pair.touch(mode=0o600)
        authority.issue_cert(LOOPBACK).private_key_and_cert_chain_pem.write_to_path(str(pair))
        port = free_port()
        settings = {
            "listener": [{"address": f"{LOOPBACK}:{port}", "security": "starttls"}],
            "tls": {"certificate": str(pair), "key": str(pair)},
        }
        with house(wire.port, settings, port=port) as relay:
            yield relay


@asynccontextmanager
async def client_of(relay: Relay, authority: trustme.CA, *, is_tls: bool) -> AsyncIterator[Line]:
    async with line_to(relay.port) as line:
        await line.reply()
        assert (await line.ask(b"EHLO a\r\n"))[:3] == "250"
        if is_tls:
            assert (await line.ask(b"STARTTLS\r\n"))[:3] == "220"
            context = ssl.create_default_context()
            authority.configure_trust(context)
            await line.start_tls(context)
            assert (await line.ask(b"EHLO a\r\n"))[:3] == "250"
        yield line


@each_row("is_tls", [False, True], ids=["plain", "tls"])
@each_row("tag", ENDS)
async def test_no_end_but_one_in_data(
    tag: str, is_tls: bool, relay: Relay, authority: trustme.CA, wire: Recorder
) -> None:
    count = len(wire.messages)
    async with client_of(relay, authority, is_tls=is_tls) as line:
        await line.send(ENVELOPE, b"DATA\r\n", smuggling(JANE, ENDS[tag], tag), b".\r\nQUIT\r\n")
        codes = [(await line.ask())[:3] for _ in range(5)]
        assert await line.rest() == b""
    assert codes in (["250", "250", "354", "250", "221"], ["250", "250", "354", "554", "221"])
    check(wire, count, came=codes[3] == "250", tag=tag)


@each_row("is_tls", [False, True], ids=["plain", "tls"])
@each_row("size", [0, 40], ids=["one chunk", "chunks of 40"])
@each_row("tag", ENDS_IN_CHUNKS)
async def test_no_end_in_chunks_at_all(
    tag: str, size: int, is_tls: bool, relay: Relay, authority: trustme.CA, wire: Recorder
) -> None:
    count = len(wire.messages)
    text = smuggling(JANE, ENDS_IN_CHUNKS[tag], tag)
    pieces = [text[at : at + (size or len(text))] for at in range(0, len(text), size or len(text))]
    async with client_of(relay, authority, is_tls=is_tls) as line:
        chunks = [b"BDAT %d\r\n%s" % (len(piece), piece) for piece in pieces[:-1]]
        await line.send(ENVELOPE, *chunks, b"BDAT %d LAST\r\n%sQUIT\r\n" % (len(pieces[-1]), pieces[-1]))
        codes = [(await line.ask())[:3] for _ in range(3 + len(pieces))]
        assert await line.rest() == b""
    assert codes[:-2] == ["250"] * (1 + len(pieces))
    assert codes[-2] in {"250", "554"}
    assert codes[-1] == "221"
    check(wire, count, came=codes[-2] == "250", tag=tag)


def check(wire: Recorder, count: int, *, came: bool, tag: str) -> None:
    """One message has left or none, with CRLF alone, and with what looked like an end as its content."""
    sent = wire.messages[count:]
    assert len(sent) == came
    for message in sent:
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", message)
        assert message.endswith(b"\r\ninner\r\n")
        assert not [line for line in message.split(b"\r\n") if re.match(rb"\.(?!\.)", line)]
    said = [command for talk in wire.conversations for command in talk.commands]
    assert not [command for command in said if f"<inner.{tag}@" in command]


@pytest.mark.needs("postfix", "dovecot", "submission", "root")
@pytest.mark.parametrize("tag", ENDS_IN_CHUNKS)
async def test_postfix_that_forbids_bare_line_feeds_gets_one_message_or_none_of_chunks(
    tag: str, postfix_relay: Relay, sink: Sink
) -> None:
    outer, sender = f"chunk.{tag}@customer.example", "support@acmejets.example"
    text = smuggling(sender, ENDS_IN_CHUNKS[tag], f"chunk.{tag}")
    async with line_to(postfix_relay.port) as line:
        await line.reply()
        envelope = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{outer}>\r\n".encode()
        await line.send(b"EHLO a\r\n", envelope, b"BDAT %d LAST\r\n%sQUIT\r\n" % (len(text), text))
        codes = [(await line.ask())[:3] for _ in range(5)]
    assert codes in (["250", "250", "250", "250", "221"], ["250", "250", "250", "554", "221"])
    if codes[3] == "250":
        assert sink.wait_for(outer).body.endswith(b"inner\r\n")
    assert not sink.to(f"inner.chunk.{tag}@customer.example")


@pytest.fixture(scope="module")
def postfix_relay(postfix: Postfix) -> Iterator[Relay]:
    with relay_process(one_channel(open_server(postfix.port))) as relay:
        yield relay
