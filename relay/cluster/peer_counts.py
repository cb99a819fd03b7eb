"""What every worker has open, as each tells the others twice a second: a limit on clients counts all of them.

A worker so knows the others' clients of half a second ago. What a burst may exceed a limit by in that time is bounded
by the limit itself: each worker keeps to it alone.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from relay.cluster.ipc import Message
from relay.cluster.peers import Peers

_SECONDS = 0.5
_TOLD_ANYWAY = 10  # times, so that who has missed one goes by the next
_KIND = "open"
DROPPED = "dropped"  # by which the supervisor tells how many lines of the log it could not write


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """What one worker has open: its process, the clients of each peer, and its connections upstream by account.

    `under_way`: the messages that it hands over; `log_dropped`: lines of the log that it could not write.
    """

    pid: int
    connections: int = 0
    clients: Mapping[str, int] = field(default_factory=dict)
    accounts: Mapping[str, int] = field(default_factory=dict)
    under_way: int = 0
    log_dropped: int = 0


class PeerCounts:
    """What the other workers have open, as each told last. `run` tells them what this one has, for ever."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._others: dict[int, Open] = {}
        self._told: Open | None = None
        self._of_ended = 0  # lines of the log that workers could not write which have ended since this one began
        self.of_supervisor = 0  # and those of the supervisor
        peers.on(_KIND, self._heard)
        peers.on(DROPPED, self._heard_dropped)
        peers.on_gone(self._forget)
        peers.on_begun(self._tell_again)

    @property
    def others(self) -> Mapping[int, Open]:
        """What each other worker told last, by its index."""
        return dict(sorted(self._others.items()))

    @property
    def connections(self) -> int:
        """How many clients the others have."""
        return sum(other.connections for other in self._others.values()) if self._others else 0

    def of(self, peer: str) -> int:
        """Return how many of them come from one peer."""
        return sum(other.clients.get(peer, 0) for other in self._others.values()) if self._others else 0

    @property
    def under_way(self) -> int:
        """How many messages the others hand over."""
        return sum(other.under_way for other in self._others.values())

    @property
    def log_dropped(self) -> int:
        """How many lines of the log all other processes could not write, the supervisor's and those that ended too."""
        return sum(other.log_dropped for other in self._others.values()) + self._of_ended + self.of_supervisor

    @property
    def accounts(self) -> Counter[str]:
        """The connections of the others, by account."""
        return sum((Counter(other.accounts) for other in self._others.values()), Counter())

    async def run(self, own: Callable[[], Open]) -> None:
        """Tell the others for ever what this worker has: where that is another than before, and now and then anyway."""
        rounds = 0
        while self._peers.place.has_others:
            found = own()
            if found != self._told or rounds % _TOLD_ANYWAY == 0:
                self._told = found
                self._peers.tell(_KIND, open=asdict(found))
            rounds += 1
            await asyncio.sleep(_SECONDS)

    def _tell_again(self, _: int) -> None:
        self._told = None

    def _heard(self, who: int, message: Message) -> None:
        self._others[who] = Open(**message["open"])

    def _heard_dropped(self, _: int, message: Message) -> None:
        self.of_supervisor = int(message["lines"])

    def _forget(self, who: int) -> None:
        ended = self._others.pop(who, None)
        self._of_ended += ended.log_dropped if ended is not None else 0
