"""The other workers of this relay, as one of them sees them, and what they tell each other.

They tell each other, at once and through the supervisor, to look at the store now, which they do a second later anyway;
and what may be lost and nobody keeps: how many clients each has, what it has counted, pauses that a server asked for,
and servers that cannot be reached. docs/processes.md says of each why it may be lost. What may not be lost is in the
store.

Counts are told twice a second, since a limit on clients counts all of them. What a burst may exceed a limit by in that
time is bounded by the limit itself: each worker keeps to it alone. Who misses a pause meets the same pause, or the same
server, by itself; a worker that begins is told what is known.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, TypeAlias

from relay import log
from relay.cluster.ipc import IpcConnection, Message
from relay.delivery.holds import Accounts, ServerHealth, Slowness, Unreached
from relay.metrics import Counts, of_ended
from relay.store.cluster.identity import Place
from relay.upstream.outcome import Phase

_ANSWER_SECONDS = 2.0
LOOK = "look"
_ASK, _ANSWER, _BEGUN, _GONE = "ask", "answer", "begun", "gone"

Answer: TypeAlias = Callable[[], Any]
"""Returns a JSON value."""
Heard: TypeAlias = Callable[[int, Message], None]
"""Is called with the index of the worker that told something, and with the message."""


class Peers:
    """The lines of one worker to the others. Without a `line` there is no other worker, and nobody hears or answers.

    `place` is this worker's. `store` is the file that the others have open as their store (device and number), where
    that is known.
    """

    def __init__(
        self, line: IpcConnection | None = None, place: Place | None = None, store: tuple[int, int] | None = None
    ) -> None:
        self.place = place or Place()
        self.store = store
        self._line = line
        self._heard: dict[str, list[Heard]] = {_ASK: [self._asked], _ANSWER: [self._answered]}
        self._answers: dict[str, Answer] = {}
        self._waiting: dict[int, tuple[dict[int, Any], set[int], asyncio.Event]] = {}
        self._numbers = count(1)
        self._is_look_told = False

    def on(self, kind: str, heard: Heard) -> None:
        """Let something be called for each message of a kind."""
        self._heard.setdefault(kind, []).append(heard)

    def on_gone(self, heard: Callable[[int], None]) -> None:
        """Let something be called when a worker has ended, whose place another takes."""
        self.on(_GONE, lambda _, message: heard(int(message["index"])))

    def on_begun(self, heard: Callable[[int], None]) -> None:
        """Let something be called when another worker has begun, and so knows nothing of what was told before."""
        self.on(_BEGUN, lambda who, _: heard(who))

    def tell(self, kind: str, *, to: int | None = None, **facts: Any) -> None:
        """Tell all others something, or one of them."""
        if self._line is not None:
            self._line.tell({"to": "all" if to is None else to, "kind": kind, **facts})

    def begin(self) -> None:
        """Let the others tell what they told before: we hear from now on."""
        self.tell(_BEGUN)

    def look(self) -> None:
        """Let the others look at the store and the directory now: something changed. Once for many calls in a row."""
        if self._line is not None and not self._is_look_told:
            self._is_look_told = True
            asyncio.get_running_loop().call_soon(self._tell_look)

    def answer(self, what: str, with_: Answer) -> None:
        """Answer when another worker asks for it."""
        self._answers[what] = with_

    async def ask(self, what: str, answers: dict[int, Any]) -> None:
        """Put what each other worker answers into `answers`, by its index; who is silent for two seconds is left out.

        An answer is there at once, so that what ends its worker (`on_gone`) finds it.
        """
        wanted = self.place.total - 1
        if self._line is None or not wanted:
            return
        number, found, done = next(self._numbers), set[int](), asyncio.Event()
        self._waiting[number] = (answers, found, done)
        self._line.tell({"to": "all", "kind": _ASK, "what": what, "number": number})
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await done.wait()
        except TimeoutError:
            log.warned(f"{wanted - len(found)} of {self.place.total} workers did not answer in time")
        finally:
            del self._waiting[number]

    async def listen(self, when_left_alone: Callable[[], Awaitable[None] | None]) -> None:
        """Hear what the others tell, until the supervisor is gone; then `when_left_alone` is called."""
        if self._line is None:
            return
        async for message in self._line.messages():
            for heard in self._heard.get(message["kind"], ()):
                try:
                    heard(int(message.get("from", -1)), message)
                except Exception:  # one word that is not understood ends no worker
                    log.broken("what another worker told met a fault of ours", exc_info=True)
        left_alone = when_left_alone()
        if left_alone is not None:
            await left_alone

    def _tell_look(self) -> None:
        self._is_look_told = False
        self.tell(LOOK)

    def _asked(self, who: int, message: Message) -> None:
        if (answer := self._answers.get(message["what"])) is not None:
            self._tell_answer(who, message, answer())

    def _tell_answer(self, who: int, message: Message, value: Any) -> None:
        if self._line is not None:
            self._line.tell({"to": who, "kind": _ANSWER, "number": message["number"], "value": value})

    def _answered(self, who: int, message: Message) -> None:
        if (waiting := self._waiting.get(message["number"])) is not None:
            answers, found, done = waiting
            answers[who] = message["value"]
            found.add(who)
            if len(found) >= self.place.total - 1:
                done.set()


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


_METRICS = "metrics"


class PeerMetrics:
    """What the other workers have counted. No sum falls when one ends: what it told last goes on counting."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._told: dict[int, Counts] = {}
        self._of_ended: Counts = []
        peers.on_gone(self._keep)

    def tell(self, own: Callable[[], Counts]) -> None:
        """Tell what this worker has counted, when another asks."""
        self._peers.answer(_METRICS, own)

    async def ask(self) -> list[Counts]:
        """Return what each has counted; who does not answer, what it told before."""
        await self._peers.ask(_METRICS, self._told)
        return [*self._told.values(), self._of_ended]

    def _keep(self, who: int) -> None:
        self._of_ended = of_ended([self._told.pop(who, []), self._of_ended])


_PAUSE, _REACH = "pause", "reach"


def share_pauses(peers: Peers, accounts: Accounts) -> None:
    """Let a pause that one worker's account has to make be made by all."""

    def tell(scope: str, pause: Slowness | None, to: int | None = None) -> None:
        facts = asdict(pause) | {"until": pause.until.isoformat()} if pause else None
        peers.tell(_PAUSE, to=to, scope=scope, pause=facts)

    def heard(_: int, message: Message) -> None:
        facts: dict[str, Any] | None = message["pause"]
        pause = Slowness(**facts | {"until": datetime.fromisoformat(facts["until"])}) if facts else None
        accounts.follow_pause(message["scope"], pause)

    def begun(who: int) -> None:
        for scope, pause in accounts.pauses.items():
            tell(scope, pause, who)

    accounts.on_pause = tell
    peers.on(_PAUSE, heard)
    peers.on_begun(begun)


def share_server_health(peers: Peers, servers: ServerHealth) -> None:
    """Let all workers know which servers nobody gets through to."""

    def tell(server: str, unreached: Unreached | None, to: int | None = None) -> None:
        moments = {"since": unreached.since.isoformat(), "last": unreached.last.isoformat()} if unreached else {}
        peers.tell(_REACH, to=to, server=server, unreached=asdict(unreached) | moments if unreached else None)

    def heard(_: int, message: Message) -> None:
        facts: dict[str, Any] | None = message["unreached"]
        if facts is None:
            servers.follow(message["server"], None)
            return
        moments = {key: datetime.fromisoformat(facts[key]) for key in ("since", "last")}
        servers.follow(message["server"], Unreached(**facts | moments | {"phase": Phase(facts["phase"])}))

    def begun(who: int) -> None:
        for server, unreached in servers.known.items():
            tell(server, unreached, who)

    servers.on_change = tell
    peers.on(_REACH, heard)
    peers.on_begun(begun)
