"""The power goes at every sync of a relay under load, and between: what had its 250 is in the store, whole.

The relay runs once, and all that it does to the files of its state folder is recorded in its order, together with each
reply that leaves (`tests.peers.interposed`). Then the record is played into a disk that keeps only what was synced, and
some of the rest (`tests.peers.power_cut`). Each state that such a disk can have is opened by Relay's own code; some are
given to a whole relay. SEED plays a run again, MINUTES lets it go on with further seeds.
"""

import asyncio
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from relay.delivery.outcome import State
from relay.mail.content import InMemory
from relay.store.db.database import open_database
from relay.store.db.errors import StoreError
from relay.store.queue.messages import Damaged, NoContent
from relay.store.queue.reader import QueueReader
from tests.e2e.ledger import Ledger, arrivals, settle_all
from tests.long.under_faults import body_of
from tests.peers.canaries import canary
from tests.peers.fixtures import StartRelay
from tests.peers.interposed import NEEDS, Interposed
from tests.peers.power_cut import Disk, Entry, Files, Op, entries, files_of, put_back
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import private_folder, wait_until

pytestmark = [pytest.mark.long, pytest.mark.needs(*NEEDS)]

SEED = int(os.environ.get("SEED") or time.time())
MINUTES = float(os.environ.get("MINUTES") or 0)
# Messages of each client; they come to more than the WAL takes before it is folded into the database.
CLIENTS, MESSAGES = 4, 28
# How many states between syncs are opened for each sync, and how many states are given to a whole relay.
BETWEEN = 0.25
WHOLE_RELAYS = 4
_RECORD = 1 << 30
_MOST = 100_000


def settings() -> dict[str, Any]:
    return {
        "delivery": {"mode": "queued", "retry": ["200ms"], "unknown_pause": "300ms", "probe": ["1h"]},
        "limits": {"memory_per_message": "64KiB"},
    }


@dataclass(slots=True)
class Story:
    """A relay's life: the folder before it, and all that was done there."""

    before: Files
    record: list[Entry]

    @property
    def folds(self) -> int:
        """How often the database file was written after a WAL, which it was synced for."""
        wal = {entry.inode for entry in self.record if entry.op is Op.CREATE and entry.path.endswith("-wal")}
        synced = [entry.inode in wal for entry in self.record if entry.op is Op.SYNC and entry.kind == "store"]
        return sum(before and not now for before, now in pairwise(synced))

    def without_syncs_of_wal(self) -> "Story":
        """The same, as if the store were not synced at a commit (synchronous=NORMAL)."""
        wal = {entry.inode for entry in self.record if entry.op is Op.CREATE and entry.path.endswith("-wal")}
        kept = [entry for entry in self.record if not (entry.op is Op.SYNC and entry.inode in wal)]
        return Story(self.before, kept)


@dataclass(slots=True)
class Found:
    """What a store has: the state of each message, its name, and what is wrong."""

    states: Mapping[str, State] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def settled(self) -> set[str]:
        """Messages for which nothing is left to do."""
        return {id_ for id_, state in self.states.items() if state.is_final}


@dataclass(slots=True)
class Promises:
    """What must be true of a store after a cut: which messages it has, and which of them are settled."""

    taken: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)

    def broken_by(self, found: Found) -> list[str]:
        """Return what is not kept."""
        missing = [f"{id_} had its 250 and is nowhere" for id_ in sorted(self.taken - set(found.states))]
        again = [f"{id_} was settled and waits again" for id_ in sorted(self.settled - found.settled)]
        return found.wrong + missing + again


@contextmanager
def recorded(relay: Relay, *, lies: bool = False) -> Iterator[Interposed]:
    """A running relay whose writes are recorded. `lies`: its syncs do nothing."""
    with private_folder("record") as folder:
        interposed = Interposed(folder, relay.state_dir, smtp=relay.port, record=_RECORD)
        if lies:
            interposed.lie()
        relay.start(*interposed.before)
        yield interposed


def live(relay: Relay, recorder: Recorder, messages: int = MESSAGES, *, lies: bool = False) -> Story:
    """Let clients send to a relay that has its passwords: first its server does not answer, then it does.

    Then the relay stops.
    """
    before, ledger = files_of(relay.state_dir), Ledger()
    with recorded(relay, lies=lies) as interposed:
        relay.set_password("server", "acmejets", canary("mailer"))
        relay.set_password("channel", "support", canary("support"))
        clients = [
            threading.Thread(target=_send, args=(relay, ledger, f"c{number}", messages)) for number in range(CLIENTS)
        ]
        recorder.hold("MAIL")
        for client in clients:
            client.start()
        wait_until(lambda: len(ledger.promised) > messages, "some mail")
        recorder.release("MAIL")
        for client in clients:
            client.join(120)
        settle_all(relay)
        assert relay.stop() == 0
        story = Story(before, list(entries(interposed.record())))
    assert len(ledger.promised) == CLIENTS * messages
    assert len([id_ for entry in story.record for id_ in entry.taken]) == len(ledger.promised)
    return story


def _send(relay: Relay, ledger: Ledger, prefix: str, messages: int) -> None:
    for number in range(messages):
        name = f"{prefix}n{number}"
        ledger.submit(relay, name, body=body_of(name))


async def verify(folder: Path) -> Found:
    """Open a store as the next start does, and read all of it."""
    found = Found()
    try:
        database = await open_database(folder / "relay.db")
    except StoreError as error:
        return Found(wrong=[f"it cannot be opened: {error}"])
    try:
        await database.check()
        reader = QueueReader(database, InMemory)
        messages = await reader.search(limit=_MOST)
        found.states = {message.id: State(message.state) for message in messages}
        found.names = {message.id: message.subject for message in messages}
        found.wrong += await reader.inspect()
        for message in await reader.list_queue(limit=_MOST):
            try:
                if await reader.verify(message) is None:
                    found.wrong.append(f"{message.id} has no digest")
            except (Damaged, NoContent) as error:
                found.wrong.append(f"{message.id} is not whole: {error!r}")
    except StoreError as error:
        found.wrong.append(str(error))
    finally:
        await database.close()
    return found


class Cuts:
    """Plays a story, and cuts the power at every sync and at some moments between. `broken` says what was not kept."""

    def __init__(self, story: Story, seed: int) -> None:
        self.tried = 0
        self.broken: list[str] = []
        # Some of the states: the files, what the store has to have by name, and what must not be sent again.
        self.some: list[tuple[Mapping[str, bytes], set[str], set[str]]] = []
        self._story = story
        self._chance = random.Random(seed)
        self._promises = Promises()

    async def play(self, between: int | None = None, whole_relays: int = 0) -> None:
        """Play all of it, with cuts at so many moments between syncs, and keep some states for whole relays."""
        disk, record = Disk(self._story.before), self._story.record
        syncs = [index for index, entry in enumerate(record) if entry.is_sync]
        chosen = set(self._chance.sample(syncs, min(whole_relays, len(syncs))))
        count = int(BETWEEN * len(syncs)) if between is None else between
        moments = set(self._chance.sample(range(len(record)), min(len(record), count)))
        for index, entry in enumerate(record):
            self._promises.taken.update(entry.taken)
            if entry.is_sync or index in moments:
                await self._cut(disk.torn(self._chance), f"in {entry.op.name} {index}")
            disk.do(entry)
            if entry.is_sync:
                found = await self._cut(disk.sure(), f"after {entry.op.name} {index}")
                self._promises.settled |= found.settled
                if index in chosen:
                    self._keep(disk.torn(self._chance), found)

    def _keep(self, files: Mapping[str, bytes], found: Found) -> None:
        owed = {found.names[id_] for id_ in self._promises.taken - found.settled if id_ in found.names}
        self.some.append((files, owed, {found.names[id_] for id_ in found.settled}))

    async def _cut(self, files: Mapping[str, bytes], moment: str) -> Found:
        self.tried += 1
        with private_folder("cut") as folder:
            folder.chmod(0o700)
            put_back(files, folder)
            found = await verify(folder)
        self.broken += [f"{moment}: {what}" for what in self._promises.broken_by(found)]
        return found


def drain(relay: Relay, recorder: Recorder, files: Mapping[str, bytes], owed: set[str], settled: set[str]) -> None:
    """Start a whole relay on what a cut left: it logs in, sends what it owes, and nothing that was settled."""
    recorder.messages.clear()
    put_back(files, relay.state_dir)
    relay.start()
    settle_all(relay)
    assert relay.stop() == 0
    arrived = arrivals(recorder)
    assert set(arrived) >= owed
    assert not set(arrived) & settled
    for raw in recorder.messages:
        head, _, body = raw.partition(b"\r\n\r\n")
        name = next(line[9:].decode() for line in head.split(b"\r\n") if line.startswith(b"Subject: "))
        assert body == body_of(name), name


def directory(recorder: Recorder) -> dict[str, Any]:
    return one_channel(
        open_server(recorder.port, auth="plain", username="mailer@acmejets.example", allow_plaintext_password=True)
    )


@pytest.mark.timeout(600 + MINUTES * 120)
async def test_a_power_cut_at_any_sync_loses_nothing(start_relay: StartRelay, recorder: Recorder) -> None:
    end, seed = time.monotonic() + MINUTES * 60, SEED
    while seed == SEED or time.monotonic() < end:
        print(f"SEED={seed}", flush=True)  # noqa: T201 - to play it again
        relay = start_relay(directory(recorder), settings(), starts=False)
        story = await asyncio.to_thread(live, relay, recorder)
        assert story.folds > 1, "the WAL was not folded into the database"
        cuts = Cuts(story, seed)
        await cuts.play(whole_relays=WHOLE_RELAYS)
        print(  # noqa: T201
            f"SEED={seed}: {len(story.record)} calls, {sum(entry.is_sync for entry in story.record)} syncs, "
            f"{sum(len(entry.taken) for entry in story.record)} messages, {cuts.tried} cuts, {len(cuts.some)} relays",
            flush=True,
        )
        assert cuts.broken == [], f"SEED={seed}"
        for files, owed, settled in cuts.some:
            again = start_relay(directory(recorder), settings(), starts=False)
            await asyncio.to_thread(drain, again, recorder, files, owed, settled)
        seed += 1


# The instrument itself: what it must find.


async def test_a_relay_whose_syncs_do_nothing_is_found_out(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory(recorder), settings(), starts=False)
    story = await asyncio.to_thread(live, relay, recorder, 5, lies=True)
    cuts = Cuts(story, 1)
    await cuts.play(between=10)
    assert any(line.endswith("had its 250 and is nowhere") for line in cuts.broken), cuts.broken


async def test_a_store_that_is_not_synced_at_a_commit_is_found_out(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory(recorder), settings(), starts=False)
    story = await asyncio.to_thread(live, relay, recorder, 5)
    cuts = Cuts(story.without_syncs_of_wal(), 1)
    await cuts.play(between=30)
    assert any(line.endswith("had its 250 and is nowhere") for line in cuts.broken), cuts.broken


def test_what_a_cut_must_not_undo() -> None:
    promises = Promises(taken={"a", "b", "c"}, settled={"b"})
    states = {"a": State.QUEUED, "b": State.QUEUED}
    assert promises.broken_by(Found(states)) == ["c had its 250 and is nowhere", "b was settled and waits again"]
    assert promises.broken_by(Found({**states, "b": State.DELIVERED, "c": State.SENDING})) == []


async def test_a_message_that_is_not_whole_is_found_out(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory(recorder), settings(), starts=False)
    recorder.replies["MAIL"] = b"451 4.3.0 Not now\r\n"
    relay.set_password("channel", "support", canary("support"))
    relay.start()
    reply = await asyncio.to_thread(Ledger().submit, relay, "whole", body=body_of("whole"))
    assert reply.startswith("250 2.0.0 Ok: queued as ")
    assert relay.stop() == 0
    assert (await verify(relay.state_dir)).wrong == []
    with closing(sqlite3.connect(relay.state_dir / "relay.db")) as store:
        store.execute("UPDATE content SET piece = X'00'")
        store.commit()
    assert "is not whole: Damaged(" in (await verify(relay.state_dir)).wrong[0]


def written(inode: int, data: bytes, offset: int = 0) -> Entry:
    return Entry(Op.WRITE, "store", inode, offset, "", "", data)


def done(op: Op, inode: int = 0, path: str = "", target: str = "") -> Entry:
    return Entry(op, "store", inode, 0, path, target, b"")


def test_what_was_not_synced_may_be_gone_and_what_was_is_there() -> None:
    disk = Disk({"/old": (1, b"before")})
    for entry in (
        written(1, b"A" * 1024),
        done(Op.CREATE, 2, "/new"),
        written(2, b"new"),
        done(Op.SYNC, 2),
    ):
        disk.do(entry)
    assert disk.sure() == {"/old": b"before"}, "neither the content, nor the name of a file whose own content is sure"
    disk.do(done(Op.SYNC, 1))
    disk.do(done(Op.SYNC_FOLDER))
    assert disk.sure() == {"/old": b"A" * 1024, "/new": b"new"}
    disk.do(done(Op.RENAME, path="/new", target="/old"))
    assert disk.sure() == {"/old": b"A" * 1024, "/new": b"new"}
    torn = [disk.torn(random.Random(seed)) for seed in range(20)]
    assert {frozenset(files) for files in torn} == {frozenset({"/old", "/new"}), frozenset({"/old"})}
    disk.do(done(Op.SYNC_FOLDER))
    assert disk.sure() == {"/old": b"new"}


def test_writes_reach_the_disk_in_parts_and_in_any_order() -> None:
    disk = Disk({"/file": (1, b"-" * 1024)})
    disk.do(written(1, b"A" * 1024))
    disk.do(written(1, b"B" * 512, 512))
    found = {disk.torn(random.Random(seed))["/file"] for seed in range(100)}
    assert found == {first * 512 + second * 512 for first in (b"-", b"A") for second in (b"-", b"A", b"B")}
