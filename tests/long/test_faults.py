"""Calls on every kind of descriptor fail together, by a seed, under everybody at once: nothing promised is lost.

SEED plays a run again, as far as the order of threads allows; MINUTES lets it go on with further seeds.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import kills
from tests.e2e.ledger import UNKNOWN, Ledger, settle_all
from tests.long.under_faults import IN_MEMORY, SENDERS, Everybody, body_of, faults_of_ledger
from tests.peers.api import ApiClient
from tests.peers.canaries import canary
from tests.peers.fixtures import StartRelay
from tests.peers.interposed import FILES, NEEDS, SOCKETS, Interposed
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.system import LOOPBACK, free_port, run, wait_until
from tests.peers.visitor import Visitor

pytestmark = [pytest.mark.long, pytest.mark.needs(*NEEDS)]

SEED = int(os.environ.get("SEED") or time.time())
MINUTES = float(os.environ.get("MINUTES") or 0)
ROUNDS = 6
# How long calls fail in a round, in seconds; and of how many, from one in 300 to one in 10.
FAILING, RATES = (1.0, 3.0), (0.003, 0.1)
_STOP = 90.0


def directory(port: int) -> dict[str, Any]:
    server = open_server(
        port, auth="plain", username="mailer@acmejets.example", allow_plaintext_password=True, max_connections=8
    )
    channels = {
        sender.partition("@")[0]: {"address": sender, "override": True, "mode": sender.partition("@")[0]}
        for sender in SENDERS
    }
    return {"default_server": "acmejets", "servers": {"acmejets": server}, "channels": channels}


def settings(pages: int) -> dict[str, Any]:
    return {
        "delivery": {"retry": ["200ms"], "unknown_pause": "300ms", "probe": ["300ms"], "patience": "5s"},
        "limits": {"memory_per_message": IN_MEMORY},
        "web": {"address": f"{LOOPBACK}:{pages}", "public_url": f"http://{LOOPBACK}:{pages}"},
    }


class Game:
    """One relay whose calls can fail, with all who use it."""

    def __init__(self, start_relay: StartRelay, recorder: Recorder, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.replies: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self._recorder = recorder
        pages = free_port()
        self.relay = start_relay(directory(recorder.port), settings(pages), starts=False)
        self.interposed = Interposed(
            folder, self.relay.state_dir, seed=seed, smtp=self.relay.port, pages=pages, upstream=recorder.port
        )
        self.relay.set_password("server", "acmejets", canary("mailer"))
        for name in directory(0)["channels"]:
            self.relay.set_password("channel", name, canary(name))
        self.relay.start(*self.interposed.before)
        url = f"http://{LOOPBACK}:{pages}"
        self._api = ApiClient(url, self.relay.ask("token", "add", "watcher")["token"])
        self._pages = Visitor(url)

    def play(self, number: int) -> None:
        """Let calls of some kinds fail for a while, in every third round over a stop."""
        kinds = [kind for kind in FILES + SOCKETS if self.chance.random() < 0.6]
        low, high = RATES
        rates = {kind: low * (high / low) ** self.chance.random() for kind in kinds}
        with Everybody(self.relay, self.ledger, str(number), self._api, self._pages) as everybody:
            self._wait_for_mail()
            self.interposed.fail(rates)
            time.sleep(self.chance.uniform(*FAILING))
            if number % 3 == 2:
                self._stop()
            self.interposed.fail({})
            self._see_that_it_runs()
            self._wait_for_mail()
        self.replies += everybody.replies
        self.answers += everybody.answers

    def check(self) -> None:
        """Wait until nothing waits, and compare.

        SQLite tells a read that failed as damage, and what is damaged waits for a person.
        """
        settle_all(self.relay, (UNKNOWN, "damaged: "))
        done = self.relay.command("check", "--store", seconds=90)
        assert done.status == 0, done.text
        assert faults_of_ledger(self.ledger, self.relay, self._recorder) == []
        self.relay.check_leaks()

    def _stop(self) -> None:
        """Stop it while its calls fail."""
        process = self.relay.process
        assert process is not None
        self.relay.signal(signal.SIGTERM)
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it does not end: {self.relay.last_words}")

    def _see_that_it_runs(self) -> None:
        """Start it where it has ended, as systemd would."""
        process = self.relay.process
        assert process is not None
        if (status := process.poll()) is not None:
            assert status in {0, 1}, f"it ended with {status}: {self.relay.last_words}"
            self.ends[str(status)] += 1
            self.relay.start(*self.interposed.before)
        wait_until(self._answers_noop, "an answer to NOOP", 60)

    def _answers_noop(self) -> bool:
        try:
            with self.relay.connect() as client:
                return client.say("NOOP").startswith("250")
        except OSError:
            return False

    def _wait_for_mail(self) -> None:
        wanted = len(self.ledger.promised) + 20
        wait_until(lambda: len(self.ledger.promised) >= wanted, f"mail: {self.relay.last_words}", 90)


def play(start_relay: StartRelay, recorder: Recorder, folder: Path, seed: int) -> None:
    print(f"SEED={seed}", flush=True)  # noqa: T201 - to play it again
    folder.mkdir()
    game = Game(start_relay, recorder, folder, seed)
    for number in range(ROUNDS):
        game.play(number)
    game.check()
    faults = game.interposed.faults()
    print(  # noqa: T201
        f"SEED={seed}: {len(game.ledger.promised)} promised, replies {dict(game.replies)}, ends {dict(game.ends)}, "
        f"answers {dict(game.answers)}, {sum(faults.values())} faults {dict(faults)}",
        flush=True,
    )
    assert {name.partition(" ")[0] for name in faults} >= {"store", "client", "upstream", "log"}, faults
    assert game.relay.stop() == 0


@pytest.mark.timeout(600 + MINUTES * 120)
def test_faults_of_every_kind_lose_nothing(start_relay: StartRelay, recorder: Recorder, tmp_path: Path) -> None:
    end = time.monotonic() + MINUTES * 60
    seed = SEED
    while seed == SEED or time.monotonic() < end:
        play(start_relay, recorder, tmp_path / str(seed), seed)
        recorder.messages.clear()
        recorder.conversations.clear()
        seed += 1


# The instruments themselves: what they must do and find.


@pytest.mark.parametrize("kind", ["store", "spool"])
def test_a_disk_that_always_fails_is_told_to_clients(
    kind: str, start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), kills.settings("queued"), starts=False)
    interposed = Interposed(tmp_path, relay.state_dir, seed=1)
    relay.start(*interposed.before)
    ledger, large = Ledger(), b"x" * 998 + b"\r\n"
    assert ledger.submit(relay, "before", body=large * 2000).startswith("250 ")
    assert not interposed.faults()
    interposed.fail({kind: 1})
    assert ledger.submit(relay, "meanwhile", body=large * 2000)[:3] in {"451", "452"}
    assert {name.partition(" ")[0] for name in interposed.faults()} == {kind}
    interposed.fail({})
    wait_until(lambda: ledger.submit(relay, "after").startswith("250 "), "the disk")
    settle_all(relay)


@pytest.mark.parametrize(("kind", "call"), [("client", "accept"), ("upstream", "connect")])
def test_a_socket_that_always_fails_is_seen(
    kind: str, call: str, start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), starts=False)
    interposed = Interposed(tmp_path, relay.state_dir, seed=1, smtp=relay.port, upstream=recorder.port)
    relay.start(*interposed.before)
    interposed.fail({kind: 1})
    assert not Ledger().submit(relay, "meanwhile", timeout=5).startswith("250 ")
    assert interposed.faults()[f"{kind} {call}"]
    interposed.fail({})
    wait_until(lambda: Ledger().submit(relay, "after").startswith("250 "), "the connection")


def test_a_connection_that_fails_is_seen(start_relay: StartRelay, recorder: Recorder, tmp_path: Path) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), starts=False)
    interposed = Interposed(tmp_path, relay.state_dir, seed=1, smtp=relay.port)
    relay.start(*interposed.before)
    with relay.connect() as client:
        interposed.fail({"client": 1})
        with suppress(OSError):
            assert client.say("NOOP") == ""
    assert interposed.faults()["client read"]
    interposed.fail({})
    assert Ledger().submit(relay, "after").startswith("250 ")


def test_the_same_seed_lets_the_same_calls_fail(start_relay: StartRelay, tmp_path: Path) -> None:
    def failing(seed: int) -> list[bool]:
        folder = tmp_path / f"{seed}-{len(list(tmp_path.iterdir()))}"
        (folder / "state").mkdir(parents=True)
        interposed = Interposed(folder, folder / "state", seed=seed)
        interposed.fail({"files": 0.06})
        done = run([*interposed.before, sys.executable, "-c", _WRITES, str(folder / "state" / "file")])
        assert done.status == 0, done.text
        return [word == "failed" for word in done.out.split()]

    first = failing(1)
    assert first == failing(1)
    assert first != failing(2)
    assert 10 < sum(first) < 60


_WRITES = """
import os, sys
for number in range(100):
    try:
        os.close(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o600))
        print("written")
    except OSError:
        print("failed")
"""


def test_what_is_lost_cut_or_repeated_is_found_out(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)))
    ledger = Ledger()
    for name in ("lost", "cut", "repeated", "well"):
        assert ledger.submit(relay, name, body=body_of(name)).startswith("250 ")
    assert faults_of_ledger(ledger, relay, recorder) == []
    lost, cut, repeated, _ = recorder.messages
    recorder.messages.remove(lost)
    recorder.messages[0] = cut[:-10]
    recorder.messages.append(repeated)
    found = faults_of_ledger(ledger, relay, recorder)
    assert [line.partition(":")[0] for line in found] == [
        "lost was promised and is nowhere",
        "repeated arrived 1 times too often, 0 unknown",
        "cut arrived with another content",
    ]
