"""The two ends of a connection, over a transport that only takes notes: what is answered at once, and what waits."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from relay.listener.wire import ClientLeft, LineTooLong, Wire
from tests.dialogs.listener.listener_kit import within

LONGEST = 100
MUCH = 65 * 1024  # octets: more than may wait


class _Notes(asyncio.Transport):
    """What a wire told its transport."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading: list[str] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self.reading.append("pause")

    def resume_reading(self) -> None:
        self.reading.append("resume")

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


def new_wire() -> tuple[Wire, _Notes]:
    wire, notes = Wire(asyncio.get_running_loop()), _Notes()
    wire.connect(notes)
    return wire, notes


def echo(wire: Wire, last: bytes = b"last") -> Callable[[], bytes | None]:
    """A step that repeats each line, up to the last."""

    def step() -> bytes | None:
        while (line := wire.next_line(LONGEST)) is not None:
            if line == last:
                return line
            wire.send(line + b"!")
        return None

    return step


async def waiting(wire: Wire, step: Callable[[], bytes | None] | None = None) -> asyncio.Task[bytes]:
    task = asyncio.create_task(wire.until(step or echo(wire)))
    await asyncio.sleep(0)
    return task


async def test_what_comes_is_answered_before_any_task_runs() -> None:
    wire, notes = new_wire()
    task = await waiting(wire)
    wire.put(b"a\r\nb\n")
    wire.put(b"c")
    wire.put(b"d\r\n")
    assert notes.written == [b"a!b!", b"cd!"], "one group, one write"
    assert not task.done()
    wire.put(b"e\r\nlast\r\nafter\r\n")
    assert notes.written[2:] == [], "what is held back goes out with what the task says"
    assert await task == b"last"
    wire.send(b"done")
    await wire.flush()
    assert notes.written[2:] == [b"e!done"]
    assert await wire.line(LONGEST) == b"after"


async def test_nothing_more_is_answered_while_the_client_does_not_read() -> None:
    wire, notes = new_wire()
    task = await waiting(wire)
    wire.fill()
    wire.put(b"a\r\nlast\r\n")
    wire.end()
    assert notes.written == []
    assert not task.done()
    wire.drain()
    assert await task == b"last"
    flushing = asyncio.create_task(wire.flush())
    wire.fill()
    await asyncio.sleep(0)
    assert not flushing.done()
    wire.drain()
    await within(flushing)
    assert notes.written == [b"a!"]


async def test_reading_rests_while_much_waits() -> None:
    wire, notes = new_wire()
    wire.put(b"x" * MUCH)
    assert notes.reading == ["pause"]
    assert len(await wire.chunk(MUCH // 2)) == MUCH // 2
    assert notes.reading == ["pause", "resume"]
    assert len(await wire.chunk()) == MUCH - MUCH // 2


async def test_a_step_that_wants_another_turn_lets_others_run_before() -> None:
    wire, _ = new_wire()
    turns: list[str] = []

    def step() -> bytes | None:
        turns.append("step")
        if len(turns) > 3:
            return b"over"
        wire.call_again()
        return None

    task = await waiting(wire, step)
    wire.end()
    asyncio.get_running_loop().call_soon(turns.append, "others")
    assert await within(task) == b"over", "it sees all that is here, though no more will come"
    assert turns[:3] == ["step", "step", "others"]


@pytest.mark.parametrize("is_lost", [True, False])
async def test_who_waits_hears_that_the_client_left(is_lost: bool) -> None:
    wire, notes = new_wire()
    task = await waiting(wire)
    wire.put(b"a\r\nhalf a line")
    if is_lost:
        wire.lose()
    else:
        wire.end()
    with pytest.raises(ClientLeft):
        await within(task)
    with pytest.raises(ClientLeft):
        await wire.line(LONGEST)
    assert notes.written == [b"a!"]


async def test_all_that_came_before_the_end_is_read() -> None:
    wire, _ = new_wire()
    wire.put(b"a\r\nb\r\nc")
    wire.end()
    assert [await wire.line(LONGEST), await wire.line(LONGEST)] == [b"a", b"b"]
    assert await wire.chunk() == b"c"
    with pytest.raises(ClientLeft):
        await wire.chunk()


async def test_nothing_is_read_from_or_said_on_a_lost_connection() -> None:
    wire, _ = new_wire()
    wire.put(b"a\r\n")
    wire.lose()
    with pytest.raises(ClientLeft):
        await wire.line(LONGEST)
    with pytest.raises(ClientLeft):
        await wire.flush()
    await within(wire.close())


async def test_what_a_step_raises_comes_to_who_waits() -> None:
    wire, _ = new_wire()
    task = await waiting(wire)
    wire.put(b"x" * (LONGEST + 2))
    wire.put(b"x" * MUCH)
    wire.put(b"\r\nlast\r\n")
    with pytest.raises(LineTooLong):
        await within(task)
    assert await wire.line(LONGEST) == b"last"


async def test_a_lent_wire_goes_on_where_the_reader_stopped() -> None:
    wire, notes = new_wire()
    wire.put(b"x" * MUCH)
    reader = wire.lend(MUCH)
    assert notes.reading == ["pause", "resume"]
    wire.put(b"y\r\nz\r\n")
    assert len(await reader.readuntil(b"y\r\n")) == MUCH + 3
    await wire.take_back()
    wire.put(b"end\r\n")
    assert [await wire.line(LONGEST), await wire.line(LONGEST)] == [b"z", b"end"]


async def test_a_lent_wire_tells_its_reader_of_the_end() -> None:
    wire, _ = new_wire()
    reader = wire.lend(LONGEST)
    wire.put(b"a")
    wire.lose()
    assert await within(reader.read()) == b"a"
    await wire.take_back()
    with pytest.raises(ClientLeft):
        await wire.line(LONGEST)


async def test_closing_waits_until_the_connection_is_gone() -> None:
    wire, notes = new_wire()
    closing = asyncio.create_task(wire.close())
    await asyncio.sleep(0)
    assert notes.is_closed
    assert not closing.done()
    wire.lose()
    await within(closing)
