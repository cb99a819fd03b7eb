"""Files that settings name: regular ones, so large and no larger, and nothing that holds a thread."""

import os
from pathlib import Path

import pytest

from relay.config.certificate import CertificateFault, CertificateFiles
from relay.system.regular_file import MOST_OCTETS, in_file_thread, read_regular_file
from relay.upstream.dial import Contexts


def test_a_regular_file_is_read_to_its_bound(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * MOST_OCTETS)
    assert len(read_regular_file(file)) == MOST_OCTETS
    file.write_bytes(b"x" * (MOST_OCTETS + 1))
    with pytest.raises(OSError, match="1024 KiB"):
        read_regular_file(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        read_regular_file(file)


async def test_what_would_hold_a_thread_is_no_file_of_authorities(tmp_path: Path) -> None:
    """A pipe that nobody writes into, also by the way of /proc, a device without an end, a folder."""
    os.mkfifo(tmp_path / "fifo")
    reading, writing = os.pipe()
    try:
        for name in (str(tmp_path / "fifo"), f"/proc/self/fd/{reading}", "/dev/zero", str(tmp_path)):
            with pytest.raises(OSError, match="no regular file"):
                await Contexts().get(verify=True, ca_file=name)
            files = CertificateFiles(Path(name), Path(name))
            with pytest.raises(CertificateFault, match="cannot be read"):
                await in_file_thread(files.load)
    finally:
        os.close(reading)
        os.close(writing)
