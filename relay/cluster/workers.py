"""The workers that run now, as the supervisor has them: what reaches all of them, and what one tells the others.

Each is a process, the line to it, and when it was last heard of.
"""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Self

from relay.cluster.bootstrap import Bootstrap
from relay.cluster.ipc import IpcConnection, Message
from relay.cluster.peers import DROPPED


class Worker:
    """A running worker. `Worker.start` makes one; `ended` returns when its process has ended.

    `status` is what it would say to systemd; `on_status` is called when that is another than before.
    """

    def __init__(
        self, index: int, process: asyncio.subprocess.Process, line: IpcConnection, is_ready: asyncio.Event
    ) -> None:
        self.index = index
        self.is_ready = is_ready
        self.status = ""
        self.on_status: Callable[[], None] = lambda: None
        self.heard_at = time.monotonic()
        self.was_heard = False
        self._process = process
        self._line = line

    @classmethod
    async def start(cls, bootstrap: Bootstrap, is_ready: asyncio.Event) -> Self:
        """Start a process of our own program in this place; the bootstrap's `line` is made here.

        `is_ready` is set when it serves.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            bootstrap = replace(bootstrap, line=theirs.fileno())
            # -P: no module is taken from the folder in which the relay happens to be started.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "relay.app.worker",
                stdin=asyncio.subprocess.PIPE,
                pass_fds=bootstrap.inherited,
            )
        assert process.stdin is not None
        process.stdin.write(bootstrap.as_octets)
        process.stdin.close()
        return cls(bootstrap.place.index, process, await IpcConnection.over(ours), is_ready)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def silent_seconds(self) -> float:
        """For how long nothing was heard of it; 0 as long as it begins."""
        return time.monotonic() - self.heard_at if self.is_ready.is_set() else 0.0

    def tell(self, message: Message) -> None:
        """Tell it something."""
        self._line.tell(message)

    async def hear(self, pass_on: Callable[["Worker", Message], None]) -> None:
        """Take note of what it says of itself, and pass on what is for others, until it ends."""
        async for message in self._line.messages():
            if message["to"] == "supervisor":
                self._note(message["lines"])
            else:
                pass_on(self, message)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def ended(self) -> int:
        """Return its exit status, once there is one: negative is the number of a signal."""
        status = await self._process.wait()
        self._line.close()
        return status

    def _note(self, lines: list[str]) -> None:
        """Take note of words as sd_notify(3) has them."""
        self.heard_at, self.was_heard = time.monotonic(), True
        for line in lines:
            name, _, value = line.partition("=")
            if name == "STATUS" and value != self.status:
                self.status = value
                self.on_status()
            elif name == "READY":
                self.is_ready.set()


class Workers:
    """By index. A place is empty while its worker is replaced."""

    def __init__(self) -> None:
        self._by_index: dict[int, Worker] = {}
        self._dropped = 0  # lines of the supervisor's log, as the workers know

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._by_index.values()))

    @property
    def status(self) -> str:
        """What the first worker says of the relay, and while it is replaced the next one."""
        known = (worker.status for _, worker in sorted(self._by_index.items()) if worker.status)
        return next(known, "no worker serves")

    def add(self, worker: Worker) -> None:
        """Let a worker be one of the relay."""
        self._by_index[worker.index] = worker
        if self._dropped:
            worker.tell({"kind": DROPPED, "lines": self._dropped})

    def remove(self, worker: Worker) -> None:
        """Let the others know that a worker has ended."""
        del self._by_index[worker.index]
        self._tell_all({"kind": "gone", "index": worker.index})

    def pass_on(self, worker: Worker, message: Message) -> None:
        """Give what a worker tells to whom it is for."""
        to = message.pop("to")
        message["from"] = worker.index
        if to == "all":
            self._tell_all(message, but=worker.index)
        elif to in self._by_index:
            self._by_index[to].tell(message)

    def tell_dropped(self, lines: int) -> None:
        """Let the workers count the lines that the supervisor could not write: they answer for the relay."""
        if lines != self._dropped:
            self._dropped = lines
            self._tell_all({"kind": DROPPED, "lines": lines})

    def signal(self, number: signal.Signals) -> None:
        """Send all of them a signal."""
        for worker in self:
            worker.signal(number)

    def excuse(self) -> None:
        """Let nobody count as silent: it was we who did not listen."""
        now = time.monotonic()
        for worker in self:
            worker.heard_at = now

    def _tell_all(self, message: Message, *, but: int = -1) -> None:
        for index, worker in self._by_index.items():
            if index != but:
                worker.tell(message)
