"""All sessions that are open now: how many there may be, who falls silent, and how they end together.

Where a relay has several processes, they count their clients and bad logins together.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from relay.config.settings import Limits
from relay.directory.client import Client
from relay.listener import replies
from relay.listener.login_failures import LoginFailures
from relay.mail.reply import Reply

_SWEEPS = 10  # in the time that a client may be silent: so much later than that it is sent away at most
_TURNS = 5  # of the loop, from a connection that was accepted to its session
_CALM_SECONDS = 10.0  # in which what is under way may end as always; from then on we hurry
_SEND_SECONDS = 1.0  # for the last replies to leave
_ABORT_SECONDS = 1.0  # the loop needs a few turns to take note of a connection that was cut off


class Elsewhere(Protocol):
    """How many clients the other processes have."""

    @property
    def connections(self) -> int:
        """All of them."""

    def of(self, peer: str) -> int:
        """Return those of one peer."""


class Nowhere:
    """There is one process in all."""

    connections = 0

    def of(self, _: str) -> int:
        """Return none."""
        return 0


@dataclass(frozen=True, slots=True)
class Together:
    """The clients of the others, and the bad logins of all."""

    elsewhere: Elsewhere
    failures: LoginFailures


class Member(Protocol):
    """What the registry asks of a session."""

    @property
    def is_handing_over(self) -> bool:
        """Whether its message is on its way upstream."""

    def stop(self) -> None:
        """Say good-bye: soon where it is silent, after its message otherwise."""

    def hurry(self, seconds: float) -> None:
        """Answer within so many seconds, whatever is under way."""

    def abort(self) -> None:
        """Cut the connection."""

    def look_for_silence(self, now: float) -> None:
        """Hang up where nothing was heard for too long."""


class SessionRegistry:
    """The open sessions of all listeners. `elsewhere`: those of other processes.

    `is_leaving`: proxies that check whether we live are to send nobody else. New limits count for who comes later.
    """

    def __init__(self, limits: Limits, elsewhere: Elsewhere | None = None, idle_seconds: float = 300.0) -> None:
        self.limits = limits
        self._sweep_seconds = idle_seconds / _SWEEPS
        self._sweeping: asyncio.TimerHandle | None = None
        self._ending: asyncio.Event | None = None  # set when a session has ended; None where nobody waits for that
        self._elsewhere = elsewhere or Nowhere()
        self._sessions: dict[Member, str] = {}  # with the peer that each is counted for, "" as long as nobody knows
        self._per_peer: Counter[str] = Counter()
        self._is_stopping = False
        self._is_resting = False
        self._turning: asyncio.TimerHandle | None = None  # until nobody is let in any more
        self.is_leaving = False

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def per_peer(self) -> dict[str, int]:
        """How many sessions each peer has."""
        return dict(self._per_peer)

    def enter(self, session: Member) -> Reply | None:
        """Let a connection in, or return the reply that turns it away. Whoever was let in leaves by `leave`."""
        if self._is_stopping or self._is_resting:
            return replies.STOPPING
        if len(self._sessions) + self._elsewhere.connections >= self.limits.connections:
            return replies.TOO_MANY_CONNECTIONS
        self._sessions[session] = ""
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._sweep_seconds, self._sweep)
        return None

    def recognize(self, session: Member, client: Client) -> Reply | None:
        """Count a session that was let in for its client, or return the reply that turns it away."""
        limit = self.limits.connections_per_client
        if not client.is_trusted and self._per_peer[client.peer] + self._elsewhere.of(client.peer) >= limit:
            return replies.TOO_MANY_OF_CLIENT
        self._sessions[session] = client.peer
        self._per_peer[client.peer] += 1
        return None

    def leave(self, session: Member) -> None:
        """A session has ended. One that was never let in may leave, too."""
        peer = self._sessions.pop(session, "")
        if self._ending is not None:
            self._ending.set()
        if not peer:
            return
        self._per_peer[peer] -= 1
        if not self._per_peer[peer]:
            del self._per_peer[peer]

    def rest(self, notice: float) -> None:
        """Let nobody in, from so many seconds on. Who is in by then says good-bye as at the end, in no hurry."""
        self.is_leaving = True
        self._turning = asyncio.get_running_loop().call_later(notice, self._turn_away)

    def wake(self) -> None:
        """Let everybody in again."""
        self._stop_turning()
        self.is_leaving = self._is_resting = False

    def _stop_turning(self) -> None:
        if self._turning is not None:
            self._turning.cancel()

    def _turn_away(self) -> None:
        self._is_resting = True
        for session in list(self._sessions):
            session.stop()

    async def stop(self, patience: float) -> None:
        """End every session: silent ones at once, those in a message after it or when `patience` (seconds) ends.

        The last who were let in come first: nobody who was accepted is turned away. Before patience ends those whose
        message takes long are hurried, so that nobody is left without an answer.
        """
        self._stop_turning()
        told = list(self._sessions)
        for session in told:
            session.stop()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self._is_stopping = True
        for session in self._sessions.keys() - told:
            session.stop()
        calm, send = min(_CALM_SECONDS, patience / 2), min(_SEND_SECONDS, patience / 4)
        await self._end_of(self._sessions, calm)
        for session in self._sessions:
            session.hurry(patience - calm - send)
        await self._end_of(self._sessions, patience - calm)
        left = [session for session in self._sessions if not session.is_handing_over]
        for session in list(self._sessions):
            session.abort()
        # A message on its way upstream ends when it ends; without a client nothing else lasts.
        await self._end_of(left, _ABORT_SECONDS)

    async def ended(self, sessions: Iterable[Member] | None = None) -> None:
        """Wait until these sessions have ended, or all that are open now."""
        waited = list(self._sessions if sessions is None else sessions)
        while waited:
            if waited[-1] not in self._sessions:
                waited.pop()
                continue
            self._ending = self._ending or asyncio.Event()
            self._ending.clear()
            await self._ending.wait()

    async def _end_of(self, sessions: Iterable[Member], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended(sessions)

    def _sweep(self) -> None:
        """One timer for all looks for silence: to set one for each connection costs more, and each command far more."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for session in list(self._sessions):
            session.look_for_silence(now)
        self._sweeping = loop.call_later(self._sweep_seconds, self._sweep) if self._sessions else None
