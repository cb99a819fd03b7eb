"""Which servers nobody gets through to: known from the attempts themselves, and kept in memory alone.

It changes nothing about delivery: each message waits by its own times. It is for those who look after the servers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from relay.directory.model import Meaning
from relay.upstream.outcome import BEFORE_LOGIN, Outcome, Phase

# Longer than the longest usual pause between two attempts (4 h): by then nobody has anything for the server any more.
_FORGOTTEN = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Unreached:
    """A server, since when and how often in a row nobody got as far as a login there, and how the last time ended."""

    server: str
    since: datetime
    last: datetime
    times: int
    phase: Phase
    why: str


class ServerHealth:
    """The servers that cannot be reached. Every other one can, or nobody has tried.

    `on_change` is told what is known of a server now; None where it is reached again.
    """

    def __init__(self) -> None:
        self.known: dict[str, Unreached] = {}
        self.on_change: Callable[[str, Unreached | None], None] = lambda _server, _unreached: None

    def note(self, server: str, outcome: Outcome, clock: Callable[[], datetime]) -> None:
        """Take note of how an attempt at a server ended. Costs nothing where all is well."""
        failure = outcome.failure
        if failure is None or failure.phase not in BEFORE_LOGIN or failure.meaning is not Meaning.TEMPORARY:
            if self.known.pop(server, None) is not None:
                self.on_change(server, None)
            return
        before, now = self.known.get(server), clock()
        since, times = (before.since, before.times + 1) if before else (now, 1)
        self.known[server] = Unreached(server, since, now, times, failure.phase, failure.why)
        self.on_change(server, self.known[server])

    def follow(self, server: str, unreached: Unreached | None) -> None:
        """Take over what another process came to know of a server."""
        if unreached is None:
            self.known.pop(server, None)
        else:
            self.known[server] = unreached

    def unreached(self, now: datetime) -> list[Unreached]:
        """Return those that were tried in vain of late, the one that is away longest first."""
        found = [one for one in list(self.known.values()) if now - one.last < _FORGOTTEN]
        return sorted(found, key=lambda one: one.since)
