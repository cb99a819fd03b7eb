"""A small disk of its own for a relay: its state_dir is a tmpfs in a mount namespace that nobody else sees."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.packages import program
from tests.peers.relay import Relay
from tests.peers.system import run, stop

_MOUNT = """
cp -a "$1" "$1.before" && mount -t tmpfs -o "size=$2,mode=0700" none "$1" && cp -a "$1.before/." "$1" || exit 1
echo mounted; exec sleep infinity
"""
_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """The disk, held by a process that outlives the relay. `folder`: the state_dir as it is seen from outside."""

    holder: int
    folder: Path
    state_dir: Path

    @property
    def within(self) -> tuple[str, ...]:
        """The command line that runs a program where the disk is mounted."""
        return (program("nsenter"), "--target", str(self.holder), "--mount", "--")

    @property
    def free(self) -> int:
        """The octets that can still be written."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Write a file until only so many octets are free."""
        with (self.folder / "filler").open("ab", buffering=0) as filler:
            while self.free > leave:
                filler.write(b"x" * min(_BLOCK, self.free - leave))

    def make_room(self) -> None:
        """Remove that file."""
        (self.folder / "filler").unlink()

    def remount(self, option: str) -> None:
        """Change how the disk is mounted: "ro" or "rw"."""
        self._mount("-o", f"remount,{option}", str(self.state_dir))

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let the disk be read-only for a while to whoever opens a file or asks; who has one open writes on."""
        folder = str(self.state_dir)
        self._mount("--bind", folder, folder)
        self._mount("-o", "remount,bind,ro", folder)
        yield
        done = run([*self.within, "umount", folder])
        assert done.status == 0, done.text

    def _mount(self, *arguments: str) -> None:
        done = run([*self.within, "mount", *arguments])
        assert done.status == 0, done.text


@contextmanager
def small_disk(relay: Relay, size: str) -> Iterator[SmallDisk]:
    """Put the state_dir of a relay that does not run on a disk of `size` ("32m")."""
    command = [program("unshare"), "--mount", "sh", "-c", _MOUNT, "sh", str(relay.state_dir), size]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"mounted\n"
            folder = Path(f"/proc/{holder.pid}/root{relay.state_dir}")
            relay.control_socket = folder / "control.sock"
            yield SmallDisk(holder.pid, folder, relay.state_dir)
            if relay.process is not None:
                stop(relay.process)
        finally:
            holder.kill()
