"""What systemd does for a service, without being process 1: hears it, passes sockets to it, refuses system calls."""

import re
import socket
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.peers.packages import program
from tests.peers.system import run

_PASSING = "tests.peers.passing"
_MEMORY = ("mmap", "mprotect", "pkey_mprotect")


class NotifySocket:
    """Where a service says how it is (sd_notify(3)); `address` is its NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)

    def next(self, seconds: float = 20) -> list[str]:
        """Return the lines of the next message. Raises TimeoutError."""
        self._socket.settimeout(seconds)
        return self._socket.recv(65536).decode().split("\n")

    def wait_for(self, line: str, seconds: float = 20) -> list[str]:
        """Return the next message that has this line; those before it are gone. Raises TimeoutError."""
        while line not in (lines := self.next(seconds)):
            pass
        return lines

    def wait_for_silence(self, seconds: float) -> None:
        """Return when nothing has come for so long."""
        with suppress(TimeoutError):
            while True:
                self.next(seconds)

    def fill(self) -> None:
        """Make it so full that nobody can tell it anything."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, suppress(BlockingIOError):
            other.setblocking(False)
            other.connect(self._socket.getsockname())
            while True:
                other.send(b"X=1")

    def close(self) -> None:
        """Hear nothing more."""
        self._socket.close()


@contextmanager
def notify_socket(folder: Path, *, is_abstract: bool = False) -> Iterator[NotifySocket]:
    """A notify socket in a folder, or in the abstract namespace."""
    heard = NotifySocket(f"@relay-test-{uuid.uuid4()}" if is_abstract else str(folder / "notify"))
    try:
        yield heard
    finally:
        heard.close()


@contextmanager
def listening(*addresses: tuple[str, int] | Path) -> Iterator[list[socket.socket]]:
    """Sockets that listen as those of socket units do: they stay open whoever comes and goes."""
    with ExitStack() as stack:
        yield [stack.enter_context(_listening(address)) for address in addresses]


def passing(sockets: Mapping[str, socket.socket], *, names: str | None = None) -> Sequence[str]:
    """Return the command line of a program that passes sockets to the one behind it, and becomes it.

    Whoever starts it lets it inherit the sockets (`Relay.pass_fds`). `names`: other LISTEN_FDNAMES than their names.
    """
    numbers = ",".join(str(sock.fileno()) for sock in sockets.values())
    return (sys.executable, "-m", _PASSING, numbers, ":".join(sockets) if names is None else names)


def filtered(unit: Path, log: Path) -> Sequence[str]:
    """Return the command line that refuses a program the system calls that SystemCallFilter= of a unit refuses.

    The log has each that was refused, and how memory was made executable. Needs strace and systemd-analyze.
    """
    allowed: set[str] = set()
    for groups in re.findall(r"^SystemCallFilter=(.*)$", unit.read_text(), re.MULTILINE):
        calls = {call for group in groups.removeprefix("~").split() for call in _calls(group)}
        allowed = allowed - calls if groups.startswith("~") else allowed | calls
    # The question mark passes over calls that this machine does not have.
    names = ",".join(f"?{call}" for call in sorted(allowed - set(_MEMORY)))
    refused = "!" + ",".join((names, *_MEMORY))
    return ("strace", "-D", "-f", "-o", str(log), "-e", f"trace=!{names}", "-e", f"inject={refused}:error=EPERM")


def refused_calls(log: Path) -> set[str]:
    """Return what `filtered` refused, and "executable memory" where MemoryDenyWriteExecute= would refuse it."""
    found = set()
    for line in log.read_text().splitlines():
        if "(INJECTED)" in line:
            # A call that another thread's stands in the middle of ends as "<... fchown resumed>".
            found.add(re.split(r"[ (]", line.split(None, 1)[1].removeprefix("<... "))[0])
        elif "PROT_EXEC" in line and ("PROT_WRITE" in line or "mprotect" in line):
            found.add("executable memory")
    return found


def _calls(group: str) -> set[str]:
    """The system calls of a group, which is a name with an @ and may have others in it."""
    if not group.startswith("@"):
        return {group}
    lines = run([program("systemd-analyze"), "syscall-filter", group]).out.splitlines()[1:]
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return {call for name in names for call in _calls(name)}


def _listening(address: tuple[str, int] | Path) -> socket.socket:
    if isinstance(address, Path):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(address))
        address.chmod(0o666)
        sock.listen(1024)
        return sock
    return socket.create_server(address, backlog=1024)
