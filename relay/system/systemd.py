"""What systemd and a service of it tell each other: passed sockets, "ready", and the watchdog.

The words are those of sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3). The libraries for this need libsystemd
and a C compiler, or block the event loop and know no sockets; all of it is a few variables and one datagram.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field

from relay import log

_FIRST = 3  # SD_LISTEN_FDS_START
_MOST = 1024  # passed sockets; more is no number that systemd writes
_NAMELESS = "unknown"  # what systemd calls a socket whose unit gives no name
_SECONDS = 5.0  # that a message to systemd may take: its socket has room for hundreds
_VARIABLES = (
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
)


@dataclass(frozen=True, slots=True)
class Systemd:
    """What systemd gave this process. By default nothing, and then every message goes nowhere.

    `notify_socket`: a path, or "@name" in the abstract namespace. `watchdog_seconds`: how long we may be silent, 0 for
    ever. `descriptors`: the numbers of the sockets that it opened, by the name of each; several may share one.
    `tell_instead` takes the words of a message where somebody else stands between us and systemd.
    """

    notify_socket: str = ""
    watchdog_seconds: float = 0.0
    descriptors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tell_instead: Callable[[tuple[str, ...]], None] | None = None

    async def ready(self, status: str) -> None:
        """We serve, for the first time or after a reload; `status` is for people."""
        await self.tell("READY=1", f"STATUS={status}")

    async def status(self, status: str) -> None:
        """Say something new to people (`systemctl status`)."""
        await self.tell(f"STATUS={status}")

    async def reloading(self) -> None:
        """We read our files again, and say ready after it."""
        await self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    async def stopping(self, status: str) -> None:
        """We end."""
        await self.tell("STOPPING=1", f"STATUS={status}")

    async def alive(self) -> None:
        """Feed the watchdog once."""
        await self.tell("WATCHDOG=1")

    async def feed_watchdog(self, trouble: Callable[[], str]) -> None:
        """Say for ever that we live, as often as systemd advises; not while `trouble` returns a sentence."""
        while self.watchdog_seconds:
            if sentence := trouble():
                log.broken(f"{sentence}; if this lasts, systemd ends this relay and starts another")
            else:
                await self.alive()
            await asyncio.sleep(self.watchdog_seconds / 2)

    async def tell(self, *lines: str) -> None:
        """Send some words in one message."""
        if self.tell_instead is not None:
            self.tell_instead(lines)
        if not self.notify_socket:
            return
        # A line end within a line would begin another message.
        message = "\n".join(line.replace("\n", " ") for line in lines).encode(errors="surrogateescape")
        try:
            async with asyncio.timeout(_SECONDS):
                await _send(self.notify_socket, message)
        except OSError as error:  # TimeoutError is one
            reason = error.strerror or "it takes no message"
            log.warned(f"systemd cannot be told {lines[0]} at {self.notify_socket}: {reason}")


def from_environment(environ: MutableMapping[str, str], pid: int) -> Systemd:
    """Return what systemd gave the process `pid`, and take it out of the environment: it is not for our children.

    What is meant for another process counts for nothing, as what no systemd writes does.
    """
    found = {name: environ.pop(name, "") for name in _VARIABLES}
    is_for_us = found["LISTEN_PID"] == str(pid)
    is_watched = found["WATCHDOG_PID"] in {"", str(pid)}
    return Systemd(
        notify_socket=found["NOTIFY_SOCKET"] if found["NOTIFY_SOCKET"].startswith(("/", "@")) else "",
        watchdog_seconds=_number(found["WATCHDOG_USEC"]) / 1_000_000 if is_watched else 0.0,
        descriptors=_by_name(_number(found["LISTEN_FDS"]), found["LISTEN_FDNAMES"]) if is_for_us else {},
    )


def _by_name(count: int, names: str) -> Mapping[str, tuple[int, ...]]:
    given = names.split(":") if names else []
    found: dict[str, tuple[int, ...]] = {}
    for index in range(min(count, _MOST)):
        name = given[index] if index < len(given) and given[index] else _NAMELESS
        found[name] = (*found.get(name, ()), _FIRST + index)
    return found


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


async def _send(address: str, message: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        # A datagram goes as a whole; where there is no room, the loop waits.
        await asyncio.get_running_loop().sock_sendall(sender, message)
