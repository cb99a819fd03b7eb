"""Relays that are killed at a named point or at any moment, and what must hold afterwards."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.ledger import Ledger, control, repeated, settle_all, times_unknown, told
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until

# In `queued` a message goes on from memory when it is stored, in `in line` the queue runner takes it from the store
# when it may go. In `gone` the client's patience ends before the upstream has said anything, and it goes on alone.
MODES: Mapping[str, Mapping[str, str]] = {
    "queued": {"mode": "queued"},
    "in line": {"mode": "queued"},
    "auto": {"mode": "auto", "patience": "30s"},
    "gone": {"mode": "auto", "patience": "1ms"},
}


def settings(mode: str, **log: str) -> dict[str, Any]:
    """Settings for relay.toml with one of MODES and short pauses; `log` adds to the keys of its table."""
    delivery = {"retry": ["50ms"], "unknown_pause": "50ms", "probe": ["1h"], **MODES[mode]}
    return {"delivery": delivery, "log": {"format": "json", "level": "debug", **log}}


def directory(mode: str, port: int) -> dict[str, Any]:
    """A channel whose server is on this port; mail of an account with a pace is taken from the store."""
    return one_channel(open_server(port, **({"messages_per_minute": 60_000} if mode == "in line" else {})))


def start_to_die(relay: Relay, point: str, count: int = 1, armed: Path | None = None) -> None:
    """Start a relay that kills itself at a point; it may do so before it greets anybody, but for what `armed` is for.

    `armed` is a file: what comes before it is there does not count.
    """
    relay.fork("tests.e2e.killed_relay:install", point, str(count), *([str(armed)] if armed else []))
    with suppress(RuntimeError):  # it has ended
        wait_until(relay.greets, f"a greeting, or the end at {point!r}", 20)


def wait_for_kill(relay: Relay) -> None:
    """Wait until a relay has been killed. AssertionError where it ended otherwise, TimeoutExpired where it lives."""
    assert relay.process is not None
    assert relay.process.wait(30) == -signal.SIGKILL, relay.last_words


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Lives:
    """One life of a relay after the other over one store and one ledger: each ends by a kill, whose loss the next sees.

    What fails says at which point the life before ended.
    """

    relay: Relay
    recorder: Recorder
    ledger: Ledger = field(default_factory=Ledger)
    _doubtful: set[str] = field(default_factory=set)
    _last: str = ""
    _first: Callable[[], None] = _nothing
    _owed: Callable[[], None] = _nothing

    def end_at(
        self,
        point: str,
        *others: str,
        name: str,
        body: bytes = b"hello\r\n",
        count: int = 1,
        is_doubtful: bool = False,
        owes: Callable[[], None] = _nothing,
    ) -> None:
        """Begin a life, see that it settles what the last one left, and kill it while it has a message of that name.

        `owes` is what must hold of that message in the next life, when nothing waits any more.
        """
        with self.life(point, count=count, owes=owes) as arm:
            self.recorder.cut()  # so that this message connects and logs in
            if is_doubtful:
                self._doubtful.add(name)
            arm()
            self.ledger.submit(self.relay, name, *others, body=body)

    @contextmanager
    def life(
        self, point: str, *, count: int = 1, first: Callable[[], None] = _nothing, owes: Callable[[], None] = _nothing
    ) -> Iterator[Callable[[], None]]:
        """Begin a life, see that it settles what the last one left, and wait at the end until it was killed at a point.

        What is given is called when the calls begin to count. `first` is what the next life does and looks at before
        anything is settled, `owes` what must hold in it when nothing waits any more.
        """
        armed = self.relay.folder / "armed"
        armed.unlink(missing_ok=True)
        with self._named():
            start_to_die(self.relay, point, count, armed)
            self._check()
        self._last, self._first, self._owed = point, first, owes
        with self._named():
            yield armed.touch
            wait_for_kill(self.relay)

    def end_at_start(self, point: str) -> None:
        """Begin a life that is killed by what it does first of all; what the one before owes, the next has to do."""
        with self._named():
            start_to_die(self.relay, point)
            wait_for_kill(self.relay)
        self._last = f"{self._last}, and at {point}" if self._last else point

    def end(self) -> None:
        """Begin the last life, which takes new mail and settles everything."""
        with self._named():
            self.relay.start()
            self._check()
            assert self.ledger.submit(self.relay, "after").startswith("250 ")
            self._check()

    def _check(self) -> None:
        first, self._first = self._first, _nothing
        first()
        check(self.ledger, self.relay, self.recorder, is_doubtful=True)
        twice = repeated(self.recorder).keys() - self._doubtful
        assert not twice, twice
        self._owed()
        control(self.relay).status()  # its loop has gone round: what ended a settlement is over, too

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            error.add_note(f"the last kill was at {self._last!r}")
            raise


def submit_by_four(ledger: Ledger, relay: Relay, prefix: str) -> None:
    """Let four clients send as much as they can, until the relay is killed."""
    clients = [
        threading.Thread(target=ledger.submit_until_killed, args=(relay, f"{prefix}.{client}")) for client in range(4)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)


def check(ledger: Ledger, relay: Relay, recorder: Recorder, *, is_doubtful: bool) -> None:
    """What was promised is there, and nothing is there twice but what nobody could know of."""
    settle_all(relay)
    assert ledger.missing(recorder) == []
    twice = repeated(recorder)
    assert is_doubtful or not twice, twice
    unexplained = {name: count for name, count in twice.items() if count > times_unknown(relay, name)}
    assert not unexplained, {name: told(relay, name) for name in unexplained}
