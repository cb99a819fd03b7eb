"""The workers that run now, as the supervisor has them: what reaches all of them, and what one tells the others."""

import signal
import time
from collections.abc import Iterator

from relay.cluster.ipc import Message
from relay.cluster.peer_counts import DROPPED
from relay.cluster.worker import Worker


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
