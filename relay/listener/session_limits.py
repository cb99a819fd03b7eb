"""The limits of a session that no setting says: how long a client may be silent, how slow, how fast, how often wrong.

Pure: every method is told what time it is, in seconds.

SECURITY: a client that sends an octet now and then holds its place and its message's memory (slowloris); one that
sends commands without end holds the processor. The first is sent away, the second has to wait between its commands.
"""

from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastRate:
    """The least that a message must flow: octets a second, as the mean over windows of so many seconds."""

    octets: float = 500.0
    seconds: float = 60.0


class Flow:
    """One message's flow. Its first window begins with it, so the least time until it is too slow is one window."""

    def __init__(self, least: LeastRate, now: float) -> None:
        self._least = least
        self._since = now
        self._octets = 0

    def is_too_slow(self, octets: int, now: float) -> bool:
        """Count octets that came, and return whether the window that has just ended held too few."""
        self._octets += octets
        lasted = now - self._since
        if lasted < self._least.seconds:
            return False
        is_too_slow = self._octets < self._least.octets * lasted
        self._since, self._octets = now, 0
        return is_too_slow


@dataclass(frozen=True, slots=True, kw_only=True)
class MostCommands:
    """The most commands of one client: so many at once, and so many a second for ever. A message fills it up again.

    So whoever sends mail is never slowed, whatever its speed, and neither is a list of recipients of any sane length.
    """

    at_once: int = 10_000
    a_second: float = 100.0


class Commands:
    """The commands of one client (a token bucket)."""

    def __init__(self, most: MostCommands, now: float) -> None:
        self._full = float(most.at_once)
        self._a_second = most.a_second
        self._left = self._full
        self._at = now

    def pause(self, now: float) -> float:
        """Count one command, and return how many seconds its client has to wait before the next; mostly 0."""
        left = self._left + (now - self._at) * self._a_second
        if left > self._full:  # noqa: PLR1730 - a call for each command costs more than the rest
            left = self._full
        self._left = left = left - 1
        self._at = now
        return 0.0 if left >= 0 else -left / self._a_second

    def forgive(self) -> None:
        """Forget the commands up to now: they have led to a message."""
        self._left = self._full


_MIB = 1024 * 1024
_LEAST_MEMORY = 64 * _MIB  # of a worker, however many there are


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """The bounds of one session, and of the messages of all sessions together."""

    errors: int = 20  # commands that could not be understood, since the last accepted message
    idle_seconds: float = 300.0  # RFC 5321 section 4.5.3.2.7 wants at least 5 minutes
    login_pause: float = 1.0  # seconds before the answer to a third wrong login; each further one waits twice as long
    proxy_seconds: float = 5.0  # until the PROXY header is there; proxies send it at once
    handshake_seconds: float = 30.0  # until TLS is up
    goodbye_seconds: float = 5.0  # until the client has answered our end of TLS
    most_commands: MostCommands = field(default_factory=MostCommands)
    lull: float = 1.0  # when we stop: how long a client may be silent before it is told so
    farewell: float = 5.0  # and how long one that is not silent may go on outside of a message
    notice: float = 10.0  # when we rest: until proxies know by their checks, and those who come are turned away
    least_rate: LeastRate = field(default_factory=LeastRate)
    memory: int = 256 * _MIB  # octets of all messages that are on their way in, or wait for the answer about them

    @classmethod
    def of_worker(cls, workers: int) -> Self:
        """Return the limits of one of so many workers, which share the memory for messages."""
        return cls(memory=max(cls().memory // workers, _LEAST_MEMORY))
