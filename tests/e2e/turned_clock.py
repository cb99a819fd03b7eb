"""A relay whose wall clock jumps, as where an administrator sets it: libfaketime reads it from a file while it runs."""

import signal
from pathlib import Path

from tests.peers.packages import program
from tests.peers.relay import Relay

# For the mark `needs`.
NEEDS = "libfaketimeMT.so.1"
HOUR, DAY = 3600, 86400


class TurnedClock:
    """A relay whose wall clock is what a file says. `turn` sets it, by seconds from the real time."""

    def __init__(self, relay: Relay, file: Path) -> None:
        self.relay = relay
        self._file = file
        self.turn(0)

    def turn(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)

    def start(self) -> None:
        preload = f"LD_PRELOAD={program(NEEDS)}"
        said = f"FAKETIME_TIMESTAMP_FILE={self._file}"
        # The fix is for another glibc: with this one, waits for a lock with a timeout would have none.
        how = ("FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_FORCE_MONOTONIC_FIX=0")
        self.relay.start("/usr/bin/env", preload, said, *how)

    def kill(self) -> None:
        assert self.relay.process is not None
        self.relay.signal(signal.SIGKILL)
        self.relay.process.wait(30)
