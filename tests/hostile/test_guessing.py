"""Passwords that are guessed: how many guesses have an answer, and what they cost everybody else."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.hostile.house import JANE, house
from tests.hostile.line import Line, line_to
from tests.hostile.reading import encoded
from tests.peers.canaries import canary
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay
from tests.peers.system import LOOPBACK, free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wire() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def outside() -> int:
    return free_port()


@pytest.fixture(scope="module")
def relay(wire: Recorder, outside: int) -> Iterator[Relay]:
    port = free_port()
    listeners = [
        {"name": "inside", "address": f"{LOOPBACK}:{port}"},
        {"name": "outside", "address": f"{LOOPBACK}:{outside}", "trusted_networks": []},
    ]
    with house(wire.port, {"listener": listeners}, port=port, logins=["jane"]) as relay:
        yield relay


async def guess(line: Line, name: str, password: str) -> str:
    return await line.ask(b"AUTH PLAIN " + encoded(f"\0{name}\0{password}") + b"\r\n")


async def guesses(port: int, names: list[str]) -> list[str]:
    """Try one password after the other, on a new connection whenever the last one was closed."""
    replies: list[str] = []
    while len(replies) < len(names):
        async with line_to(port) as line:
            await line.ask(b"EHLO a\r\n")
            await line.reply()
            while len(replies) < len(names):
                replies.append(await guess(line, names[len(replies)], canary(f"guess {len(replies)}")))
                if replies[-1].startswith("421"):
                    break
    return replies


@pytest.mark.timeout(180)
async def test_two_hundred_guesses_have_four_answers_and_the_right_one_is_none_then(relay: Relay, outside: int) -> None:
    """By address: the names change, so that nobody can take turns."""
    begun = time.monotonic()
    replies = await guesses(outside, ["jane", "crm", "everyone", "nobody"] * 50)
    assert [reply[:9] for reply in replies] == ["535 5.7.8"] * 4 + ["421 4.7.0"] * 196
    assert time.monotonic() - begun > 1 + 2  # the third answer, and the fourth
    async with line_to(outside) as line:
        await line.ask(b"EHLO a\r\n")
        await line.reply()
        assert (await guess(line, "jane", canary("jane"))).startswith("421 4.7.0")
    # A trusted network counts by name, and there nobody has guessed yet.
    async with line_to(relay.port) as line:
        await line.ask(b"EHLO a\r\n")
        await line.reply()
        assert (await guess(line, "jane", canary("jane"))).startswith("235 2.7.0")


async def test_a_flood_of_logins_stops_nobody_who_sends(relay: Relay, wire: Recorder) -> None:
    """Each guess costs a hash, for names that do not exist as well; two at a time, and never in the loop."""
    count = len(wire.messages)
    flood = [asyncio.create_task(guesses(relay.port, [f"flood{number}"])) for number in range(60)]
    async with line_to(relay.port) as line:
        await line.ask(b"EHLO a\r\n")
        await line.reply()
        for number in range(20):
            await line.send(f"MAIL FROM:<{JANE}>\r\nRCPT TO:<you@customer.example>\r\nDATA\r\n".encode())
            assert [(await line.ask())[:3] for _ in range(3)] == ["250", "250", "354"]
            assert (await line.ask(b"Subject: %d\r\n\r\nx\r\n.\r\n" % number)).startswith("250 ")
    replies = [reply[:9] for replies in await asyncio.gather(*flood) for reply in replies]
    assert set(replies) <= {"535 5.7.8", "454 4.7.0"}
    assert len(wire.messages) == count + 20
