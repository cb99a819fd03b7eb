"""The log's writer: whatever its descriptor does, who tells something neither waits nor fails, and nothing is glued."""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.system.log_writer import LogWriter


def note(lines: int) -> str:
    return json.dumps({"dropped": lines})


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for one in (reader, writer):
        try:
            os.close(one)
        except OSError:
            continue


def read_all(reader: int, until: bytes) -> bytes:
    found = b""
    while until not in found:
        found += os.read(reader, 65536)
    return found


def test_lines_keep_their_order(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], note)
    for number in range(1000):
        writer.write(str(number))
    assert writer.flush(10)
    assert read_all(pipe[0], b"999\n") == b"".join(b"%d\n" % number for number in range(1000))
    assert writer.dropped == 0


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_descriptor_that_takes_nothing_costs_the_lines_alone(is_closed: bool, pipe: tuple[int, int]) -> None:
    writer = LogWriter(None if is_closed else pipe[1], note)
    os.close(pipe[0])
    for _ in range(3):
        writer.write("gone")
        assert writer.flush(10)
    assert writer.dropped == 3


def test_a_full_disk_is_told_when_there_is_room_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half a line that was written ends before the next one begins."""
    is_full = True
    real = os.write

    def write(descriptor: int, octets: memoryview) -> int:
        if not is_full:
            return real(descriptor, octets)
        if bytes(octets).startswith(b"first"):
            return real(descriptor, octets[:8])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno(), note)
        writer.write("first")
        writer.write("second")
        writer.write("third")
        assert writer.flush(10)
        assert writer.dropped == 2
        is_full = False
        writer.write("fourth")
        assert writer.flush(10)
        writer.write("fifth")
        assert writer.flush(10)
    assert (tmp_path / "log").read_text() == 'first\nse\n{"dropped": 2}\nfourth\nfifth\n'
    assert writer.dropped == 2


@pytest.mark.parametrize("blocks", [True, False], ids=["blocking", "non-blocking"])
def test_a_reader_that_hangs_is_told_how_much_it_missed(blocks: bool, pipe: tuple[int, int]) -> None:
    """Also where somebody has made the descriptor that we inherited non-blocking."""
    os.set_blocking(pipe[1], blocks)
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
    writer = LogWriter(pipe[1], note)
    line = "x" * 100_000
    for _ in range(500):
        writer.write(line)
    assert not writer.flush(0.1)
    assert 0 < writer.dropped < 500
    found: list[bytes] = []
    reading = threading.Thread(target=lambda: found.append(read_all(pipe[0], b'{"dropped"')))
    reading.start()
    assert writer.flush(60)
    reading.join()
    *lines, last = found[0].splitlines()
    assert last == note(writer.dropped).encode()[: len(last)]
    assert set(lines) == {line.encode()}
    assert len(lines) == 500 - writer.dropped


def test_processes_that_share_a_pipe_do_not_write_into_each_others_lines(pipe: tuple[int, int]) -> None:
    """Two writers stand for two workers; the reader is slow, so that most of the time the pipe is full."""
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
    lines = [letter * 900 for letter in "ab"]
    writers = [LogWriter(pipe[1], note) for _ in lines]
    for _ in range(300):
        for writer, line in zip(writers, lines, strict=True):
            writer.write(line)
    found = b""
    while found.count(b"\n") < 600:
        found += os.read(pipe[0], 1000)
    assert set(found.decode().splitlines()) == set(lines)


def test_a_line_that_tells_of_lost_ones_and_is_lost_counts_once(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], note)
    os.close(pipe[0])
    for number in range(1, 6):
        writer.write("gone")
        assert writer.flush(10)
        assert writer.dropped == number


def test_a_line_that_is_made_later_keeps_its_place(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], note)
    for number in range(100):
        writer.write(f"a{number}")
        writer.write_later((str.upper, f"b{number}"), 100)
    assert writer.flush(10)
    assert read_all(pipe[0], b"B99\n") == b"".join(b"a%d\nB%d\n" % (number, number) for number in range(100))


def test_a_line_that_cannot_be_made_is_dropped_and_told(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], note)
    writer.write("first")
    writer.write_later((str.upper, 1), 100)
    writer.write("third")
    assert writer.flush(10)
    writer.write("fourth")
    assert writer.flush(10)
    assert writer.dropped == 1
    assert read_all(pipe[0], b"fourth\n") == b'first\nthird\n{"dropped": 1}\nfourth\n'


def test_lines_that_are_made_later_are_bounded_by_what_they_hold() -> None:
    reader, descriptor = os.pipe()
    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 4096)
    writer = LogWriter(descriptor, note)
    for _ in range(500):
        writer.write_later((str, "x" * 5000), 100_000)
    assert 0 < writer.dropped < 500
    os.close(reader)
    os.close(descriptor)
