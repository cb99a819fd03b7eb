"""One connection, over a transport that only takes notes: what is answered at once, what waits, and what is read."""

import asyncio
from typing import Any

import pytest

from relay.listener.connection import ClientLeft, Connection, LineTooLong
from relay.listener.session_limits import SessionLimits
from tests.dialogs.listener.listener_kit import within

LONGEST = 100
MUCH = 65 * 1024  # octets: more than may wait


class _Notes(asyncio.Transport):
    """What a connection told its transport."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading: list[str] = []
        self.is_closed = False
        self.unsent = 0

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

    def abort(self) -> None:
        self.reading.append("abort")

    def get_write_buffer_size(self) -> int:
        return self.unsent


class _Echo(Connection):
    """Repeats each line; at "task" a task begins, which has what follows."""

    is_handing_over = False

    def _begin(self) -> None:
        self._is_mute = False
        self.lefts = 0
        self.lines: list[bytes] = []

    def _work(self) -> None:
        while self._input and not self._is_busy:
            line = self._next_line(LONGEST)
            if line is None:
                break
            self.send(line + b"!")
            if line == b"task":
                self._start(self.read_lines())
        self._write()
        if self._is_held:
            self._throttle()

    def _left(self) -> None:
        self.lefts += 1

    async def read_lines(self) -> None:
        while (line := await self.line(LONGEST)) != b"end":
            self.lines.append(line)
        self._is_busy = False
        self.send(b"ended")
        self._work()


def connect() -> tuple[_Echo, _Notes]:
    connection, notes = _Echo.prepare("relay.example", 1000)(SessionLimits()), _Notes()
    connection.connection_made(notes)
    return connection, notes


def busy() -> tuple[_Echo, _Notes]:
    """A connection whose task is the test."""
    connection, notes = connect()
    connection._is_busy = True
    return connection, notes


async def test_it_is_what_aiosmtpd_made_of_it() -> None:
    connection, _ = connect()
    assert (connection.hostname, connection.data_size_limit, connection.enable_SMTPUTF8) == (
        "relay.example",
        1000,
        True,
    )
    assert connection.loop is asyncio.get_running_loop()
    assert "hostname" not in vars(connection), "prepared once, for the class"


async def test_what_comes_is_answered_before_any_task_runs() -> None:
    connection, notes = connect()
    connection.data_received(b"a\r\nb\n")
    connection.data_received(b"c")
    connection.data_received(b"d\r\n")
    assert notes.written == [b"a!b!", b"cd!"], "one group, one write"
    connection.data_received(b"e\r\ntask\r\nafter\r\n")
    assert notes.written[2:] == [b"e!task!"]
    connection.data_received(b"more\r\nend\r\nf\r\n")
    while connection._is_busy:  # noqa: ASYNC110  it knows no event
        await asyncio.sleep(0)
    assert connection.lines == [b"after", b"more"]
    assert notes.written[3:] == [b"endedf!"], "what is held back goes out with what the task says"


async def test_nothing_more_is_answered_while_the_client_does_not_read() -> None:
    connection, notes = connect()
    connection.pause_writing()
    connection.data_received(b"a\r\n")
    connection.eof_received()
    assert notes.written == []
    connection.resume_writing()
    assert notes.written == [b"a!"]
    connection.pause_writing()
    connection.send(b"b!")
    flushing = asyncio.create_task(connection._flush())
    await asyncio.sleep(0)
    assert not flushing.done()
    connection._is_busy = True  # as with every task
    connection.resume_writing()
    await within(flushing)
    assert notes.written == [b"a!", b"b!"]


async def test_reading_rests_while_much_waits() -> None:
    connection, notes = busy()
    connection.data_received(b"x" * MUCH)
    assert notes.reading == ["pause"]
    assert len(await connection.chunk(MUCH // 2)) == MUCH // 2
    assert notes.reading == ["pause", "resume"]
    assert len(await connection.chunk()) == MUCH - MUCH // 2


@pytest.mark.parametrize("is_lost", [True, False])
async def test_who_waits_hears_that_the_client_left(is_lost: bool) -> None:
    connection, _ = busy()
    waiting = asyncio.create_task(connection.line(LONGEST))
    await asyncio.sleep(0)
    connection.data_received(b"half a line")
    if is_lost:
        connection.connection_lost(None)
    else:
        connection.eof_received()
    with pytest.raises(ClientLeft):
        await within(waiting)
    with pytest.raises(ClientLeft):
        await connection.line(LONGEST)
    assert connection.lefts == is_lost


async def test_all_that_came_before_the_end_is_read() -> None:
    connection, _ = busy()
    connection.data_received(b"a\r\nb\r\nc")
    connection.eof_received()
    assert [await connection.line(LONGEST), await connection.line(LONGEST)] == [b"a", b"b"]
    assert await connection.chunk() == b"c"
    with pytest.raises(ClientLeft):
        await connection.chunk()


async def test_nothing_is_said_on_a_lost_connection() -> None:
    connection, notes = busy()
    connection.connection_lost(None)
    connection.connection_lost(None)
    assert connection.lefts == 1, "where TLS fails, it is told twice"
    connection.send(b"a!")
    with pytest.raises(ClientLeft):
        await connection._flush()
    assert notes.written == []


async def test_a_line_that_is_too_long_passes_by_to_its_end() -> None:
    connection, _ = busy()
    connection.data_received(b"x" * (LONGEST + 2))
    assert connection._next_line(LONGEST) is None
    connection.data_received(b"x" * MUCH)
    assert connection._next_line(LONGEST) is None
    connection.data_received(b"\r\nlast\r\n")
    with pytest.raises(LineTooLong):
        connection._next_line(LONGEST)
    assert await connection.line(LONGEST) == b"last"


async def test_a_reader_has_all_that_comes_and_the_session_what_it_leaves() -> None:
    connection, notes = busy()
    connection.data_received(b"x" * MUCH)
    reader = connection._lend(MUCH)
    assert notes.reading == ["pause", "resume"]
    connection.data_received(b"y\r\nz\r\n")
    assert len(await reader.readuntil(b"y\r\n")) == MUCH + 3
    await connection._take_back()
    connection.data_received(b"end\r\n")
    assert [await connection.line(LONGEST), await connection.line(LONGEST)] == [b"z", b"end"]


async def test_a_reader_hears_of_the_end() -> None:
    connection, _ = busy()
    reader = connection._lend(LONGEST)
    connection.data_received(b"a")
    connection.connection_lost(None)
    assert await within(reader.read()) == b"a"
    await connection._take_back()
    with pytest.raises(ClientLeft):
        await connection.line(LONGEST)


@pytest.mark.parametrize("unsent", [0, 1])
async def test_last_words_are_for_who_has_read_those_before(unsent: int) -> None:
    connection, notes = connect()
    notes.unsent = unsent
    connection.hang_up(b"bye")
    assert (notes.written, notes.is_closed, notes.reading) == (
        ([], False, ["abort"]) if unsent else ([b"bye"], True, [])
    )
    connection.hang_up(b"bye")
    assert notes.reading[-1] == "abort", "one that does not go is cut off"
