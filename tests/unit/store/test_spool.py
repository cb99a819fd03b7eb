"""Bodies that are too large for memory: what comes back is what went in, and nothing is left of it."""

import errno
import gc
import os
import stat
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.content import Content, ContentReader
from relay.store.db.errors import StoreError, StoreFull
from relay.store.queue.messages import NewMessage
from relay.store.queue.spool import Spool, SpooledBody
from tests.peers.system import wait_until
from tests.unit.store.store_kit import new_message, open_queue

LINE = b"x" * 70 + b"\r\n"
LARGE = LINE * 10_000


def read(octets: bytes, spool: Spool) -> Content:
    reader = ContentReader(spool.new_body())
    reader.feed(octets)
    return reader.finish()


def descriptors() -> set[str]:
    """What this process has open that has no name any more."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:  # the one that lists them
            continue
    return {path for path in found if "(deleted)" in path}


def test_a_large_body_lies_in_a_file_without_a_name_as_long_as_somebody_has_it(tmp_path: Path) -> None:
    before = descriptors()
    content = read(b"Subject: x\r\n\r\n" + LARGE, Spool(tmp_path, 1000))
    assert isinstance(content.body, SpooledBody)
    assert list(tmp_path.iterdir()) == []
    assert stat.S_IMODE(os.fstat(content.body.number).st_mode) == 0o600
    assert (content.header, content.size) == (b"Subject: x\r\n", len(b"Subject: x\r\n\r\n" + LARGE))
    assert content.is_ascii
    for _ in range(2):
        assert b"".join(content.body) == LARGE
    assert len(descriptors() - before) == 1
    del content
    gc.collect()
    wait_until(lambda: descriptors() <= before, "the end of the file")  # a thread closes it


def test_a_body_that_fits_opens_no_file(tmp_path: Path) -> None:
    content = read(b"\r\n" + LINE, Spool(tmp_path / "missing", len(LINE)))
    assert content.body == (LINE,)


def test_eight_bits_anywhere_are_eight_bits(tmp_path: Path) -> None:
    assert not read(b"\r\n" + LARGE + b"\xff\r\n", Spool(tmp_path, 1000)).is_ascii


def test_what_is_held_in_memory_is_what_is_not_in_the_file(tmp_path: Path) -> None:
    reader = ContentReader(Spool(tmp_path, 300_000).new_body())
    reader.feed(b"\r\n")
    most = 0
    for _ in range(200):
        reader.feed(LINE * 1000)
        most = max(most, reader.held)
    assert 200_000 < most < 300_000 + 2 * 64 * 1024
    assert reader.held < 2 * 64 * 1024
    assert reader.finish().size == 2 + 200_000 * len(LINE)


@given(st.lists(st.sampled_from([b"x", b"\r\n", b"x" * 1000, b"\r\n" * 500, b"x" * 131_071]), max_size=9))
def test_no_chunk_ends_between_cr_and_lf(parts: list[bytes]) -> None:
    body = SpooledBody(Path(tempfile.gettempdir()))
    for part in parts:
        body.append(part)
    chunks = list(body)
    assert b"".join(chunks) == b"".join(parts)
    assert all(chunks)
    assert not any(one.endswith(b"\r") for one, _ in pairwise(chunks))


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"cannot be kept in a temporary file in {tmp_path}/gone: No such file"):
        Spool(tmp_path / "gone", 10).new_body().add(LINE)


def test_what_the_settings_keep_free_stays_free(tmp_path: Path) -> None:
    with pytest.raises(StoreFull, match="less than 1152921504606846976 octets are free"):
        Spool(tmp_path, 10, least_free=2**60).new_body().add(LINE)


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EIO, StoreError)]
)
def test_a_disk_that_is_full_is_told_from_one_that_is_broken(
    number: int, kind: type[StoreError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("relay.store.queue.spool.os.write", fail)
    with pytest.raises(StoreError) as error:
        Spool(tmp_path, 10).new_body().add(LINE)
    assert type(error.value) is kind


@pytest.mark.parametrize("left", [10, len(LINE) - 1], ids=["in a line", "between CR and LF"])
def test_a_file_that_is_shorter_than_what_was_written_is_no_message(left: int, tmp_path: Path) -> None:
    body = SpooledBody(tmp_path)
    body.append(LINE)
    os.ftruncate(body.number, left)
    with pytest.raises(StoreError, match=f"ends at {left} of 72 octets"):
        list(body)


async def test_a_large_message_goes_through_the_store_by_files(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000)
    content = read(b"Subject: x\r\n\r\n" + LARGE, spool)
    async with open_queue(tmp_path / "relay.db", new_body=spool.new_body) as queue:
        await queue.add(NewMessage(message=new_message("large"), content=content))
        again = await queue.content("large")
    assert isinstance(again.body, SpooledBody)
    assert (again.header, b"".join(again.body)) == (content.header, LARGE)
