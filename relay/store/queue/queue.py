"""The queue and the history of messages, as the rest of the relay uses them; what is only read is in `reading`.

What a method has written is on the disk when it returns. Whoever has a message under way holds its lease, and names
the fence that came with it in all that it writes; from a late one, whose message was taken over, nothing is written.

DIAGNOSTICS: StoreError and its kinds (`relay.store.db.errors`) from every method; what else is raised, the method says.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from types import EllipsisType
from typing import TypeVar

from sqlalchemy import Connection

from relay.limits.ledger import Purpose, Spent
from relay.limits.rate import BeginRule, Begun
from relay.limits.rows import Row, Taken, TakeRule
from relay.limits.shares import Grant, Rule
from relay.mail.content import InMemory, NewBody
from relay.store.cluster import account_limits
from relay.store.cluster.leases import LeaseContinuity, LeaseDurations, NamedLease, lease_durations, require
from relay.store.db.backend import Moment
from relay.store.db.clocks import SteadyClock, StoreClock, pull_in
from relay.store.db.database import BatchJob, Database, Job, Topic
from relay.store.db.errors import StoreError
from relay.store.db.writer import Writer
from relay.store.queue import claims, holds, returns, writes
from relay.store.queue.claims import Due, InDoubt, Late, Lease
from relay.store.queue.holds import Cause
from relay.store.queue.messages import Attempt, Change, HoldRow, NewMessage, ReturnRow, Settlement, StoredMessage
from relay.store.queue.outbox import Outbox, Subscribers, telling
from relay.store.queue.reader import QueueReader
from relay.store.queue.troubles import TroubleTable
from relay.store.queue.writes import BegunAttempt, FinalDot
from relay.system.clock import utc_now

T = TypeVar("T")
TakenBack = tuple[StoredMessage, Attempt | None]
Took = TypeVar("Took", bound=Taken)


_BATCH = 500  # messages that one transaction changes where there may be very many
# Of 4 KiB, and as many as one transaction gives back to the disk.
_PAGES = 2000


class Queue(QueueReader):
    """One for a process. `owner` names it among all that use the store, and no earlier run of it had that name.

    `living` says who else uses it now. `new_body` gathers the bodies that are read.
    """

    def __init__(
        self,
        database: Database,
        owner: str,
        clock: Callable[[], datetime] = utc_now,
        new_body: NewBody = InMemory,
        living: claims.Living = claims.NOBODY,
        durations: LeaseDurations | None = None,
        steady: SteadyClock | None = None,
    ) -> None:
        super().__init__(database, new_body)
        self._living = living
        # Returns the time by which what waits is due: of the store where machines share it, else the wall clock's.
        self.now: Callable[[], datetime] = clock
        # Whether processes of other machines may use it.
        self.is_shared = database.is_shared
        self._writer = Writer(database)
        self._owner = owner
        self.durations = durations or lease_durations(database.is_shared)
        self._lease = timedelta(seconds=self.durations.messages)
        self._continuity = LeaseContinuity(self.durations.messages)
        self._clock = clock
        self._steady = steady
        self._store_clock = StoreClock(self._timing)
        if self.is_shared:
            self.now = self._store_clock.now
        # What may be under way by our own lease without anybody here who knows: the store failed when it was taken.
        self._doubtful: set[str] = set()
        # Who is told of messages, in the transaction of what is told; None: nobody.
        self.subscribers: Subscribers | None = None
        self.outbox, self.troubles = Outbox(database), TroubleTable(database)

    async def aclose(self) -> None:
        """Write what waits to be written, then take no more. The database stays open."""
        await self._writer.aclose()

    @property
    def written(self) -> int:
        """How many changes this process has written; another number means that the queue or history may be another."""
        return self._writer.written

    @property
    def has_doubts(self) -> bool:
        """Whether there may be something to take back that is under way by our own lease, and lost."""
        return bool(self._doubtful)

    # New messages

    async def add(self, *news: NewMessage) -> None:
        """Store messages, all or none. One with an open attempt is under way, and its lease is ours."""
        try:
            await self._writer.run_together(self._add_all, news, octets=writes.content_octets(news))
        except StoreError:
            self._doubtful.update(new.message.id for new in news if new.is_under_way)
            raise
        if self._doubtful:
            self._doubtful.difference_update(new.message.id for new in news)

    async def record(self, news: Sequence[NewMessage], *, again: bool = False) -> None:
        """Store the history of messages that were handed over without being stored: all or none.

        `again`: an earlier call failed. What is there of them stays as it is, because its answer may have been lost.
        """
        await self._write(lambda c: self._add_all(c, [writes.lacking(c, news) if again else news]))

    # Messages under way

    async def claim(
        self, profiles: Collection[str | None], limit: int, now: datetime, state: str
    ) -> list[StoredMessage]:
        """Take at most `limit` messages of these profiles that are due, the longest overdue first.

        No other claim gets them. They are in `state` now, and have a new fence.
        """
        ids = await self._database.read(lambda c: claims.due_ids(c, profiles, limit, now))
        if not ids:
            return []
        with self._doubting(ids):
            taken: list[StoredMessage] = await self._writer.run_together(self._take_all, Due(ids, state, now))
        return taken

    async def claim_late(
        self, profiles: Collection[str | None], late: Late, limit: int, now: datetime, state: str
    ) -> list[StoredMessage]:
        """Take at most `limit` messages of these profiles that have waited too long for their turn, as `claim`."""
        ids = await self._database.read(lambda c: claims.late_ids(c, profiles, late, limit, now))
        return await self._take(ids, state, late.due) if ids else []

    async def claim_one(self, id_: str, state: str) -> StoredMessage | None:
        """Take one message that waits, due or not; None where it does not wait."""
        taken = await self._take([id_], state, None)
        return taken[0] if taken else None

    async def begin_attempt(self, id_: str, fence: int, attempt: Attempt) -> None:
        """Record an attempt before it connects. Raises Fenced."""
        await self._writer.run_together(self._begin_all, BegunAttempt(id_, fence, attempt))

    async def mark_final_dot(self, id_: str, fence: int, number: int) -> None:
        """Record that an attempt is about to send its final dot. Raises Fenced, also for an unknown attempt."""
        await self._writer.run_together(self._mark_all, FinalDot(id_, fence, number))

    async def settle(self, settlement: Settlement) -> None:
        """Write what came of a message under way, its attempt and reports, and end its lease. Raises Fenced."""
        octets = writes.content_octets(settlement.reports) if settlement.reports else 0
        await self._writer.run_together(self._settle_all, settlement, octets=octets)

    async def release_lease(self, id_: str, fence: int, state: str) -> None:
        """Give a message back untried: it waits as before, in `state`. Raises Fenced."""
        await self._write(lambda c: writes.release_lease(c, id_, fence, state, self._new_lease()))

    async def renew_leases(self) -> None:
        """Hold all our leases for longer; to be called before half of a lease is over."""

        def job(connection: Connection) -> None:
            claims.renew(connection, self._new_lease())
            self._now(connection)

        await self._write(job)
        self._continuity.note()

    @property
    def may_judge(self) -> bool:
        """Whether we may take what others, of whom we know nothing else, have let expire (`LeaseContinuity`)."""
        return self.is_shared and self._continuity.is_complete

    @property
    def owner(self) -> str:
        """Who has what this process has."""
        return self._owner

    def wall(self) -> float:
        """Return the time by which what all processes do is counted, in seconds since 1970."""
        return self._store_clock.now().timestamp()

    def ahead(self) -> float:
        """Return by how many seconds the wall clock is ahead of the steady one: what was waited is counted by that."""
        return 0.0 if self._steady is None or self.is_shared else self._steady.ahead()

    def came_ahead(self) -> float:
        """Return by how many seconds the clock that says when a message comes is ahead of the steady one."""
        if self._steady is None:
            return 0.0
        if not self.is_shared:
            return self._steady.ahead()
        return round(self._steady.wall() - self.wall(), 3)

    async def pull_in(self, longest: float) -> int:
        """Make due what would wait for more than so many seconds from now; return how many messages."""
        return await self._write(lambda c: pull_in(c, self.now().timestamp(), longest))

    async def take_back(self, now: datetime, *, only_expired: bool = False) -> AsyncIterator[TakenBack]:
        """Take the messages that others left under way, and yield each with its open attempt.

        All of those who cannot be alive, and what other machines have let expire, where we may say that. And those
        that were lost with an answer of the store: a commit may have come to its end, and its caller not know of it.
        `only_expired`: of all others, only those whose lease has expired by now.
        """
        expired = self._database.after(timedelta(), now) if only_expired or self.may_judge else None
        living = None if only_expired else self._living
        doubtful = frozenset(self._doubtful)
        while batch := await self._take_over(expired, living, doubtful):
            doubtful -= {message.id for message, _ in batch}
            for taken in batch:
                yield taken
        self._doubtful -= doubtful

    # Changes from outside

    async def edit(self, id_: str, change: Change) -> bool:
        """Write what `change` makes of a message; False where it is missing or `change` returns None.

        The settlement's fence does not matter. Raises Leased where the message is under way.
        """
        return await self._write(
            lambda c: writes.edit(c, id_, change, self._new_lease(), self._clock(), self.subscribers)
        )

    async def make_due(self, now: datetime, *, profile: str | EllipsisType | None = ..., pausing: str = "") -> int:
        """Make due what waits: of one profile (None is nobody's), or all. Return how many messages were not yet.

        What is in the state `pausing` waits on as it does.
        """
        return await self._in_batches(partial(holds.make_some_due, profile=profile, now=now, pausing=pausing))

    async def purge(self, before: datetime) -> int:
        """Delete the messages that were finished before a moment; return how many."""
        return await self._in_batches(partial(writes.purge_some, before=before))

    async def shrink(self) -> int:
        """Give the room of what was deleted back to the disk; return how many pages that is."""
        done = 0
        while freed := await self._database.shrink(_PAGES):
            done += freed
        return done

    # Returned mail

    async def add_return(self, id_: str, row: ReturnRow) -> bool:
        """Keep what came back of a message for one recipient; False where something is known already."""
        return await self._write(lambda c: returns.add_return(c, id_, row, self.subscribers))

    async def returns(self, id_: str) -> tuple[ReturnRow, ...]:
        """Return what came back of a message, in the order of its recipients."""
        return await self._database.read(lambda c: returns.returns_of(c, id_))

    async def position(self, mailbox: str) -> str | None:
        """Return how far a mailbox is read; None where it never was."""
        return await self._database.read(lambda c: returns.position(c, mailbox))

    async def put_position(self, mailbox: str, position: str, under: NamedLease | None = None) -> None:
        """Keep how far a mailbox is read. Raises LeaseLost where that lease is another's by now."""

        def job(connection: Connection) -> None:
            require(connection, under)
            returns.put_position(connection, mailbox, position)

        await self._write(job)

    # Holds of accounts

    async def holds(self) -> tuple[HoldRow, ...]:
        """Return the holds of all accounts."""
        return await self._database.read(holds.all_holds)

    async def put_hold(self, row: HoldRow, under: NamedLease | None = None) -> None:
        """Keep a hold, in place of one over the same. Raises LeaseLost where that lease is another's by now."""

        def job(connection: Connection) -> None:
            require(connection, under)
            holds.put_hold(connection, row)
            self._database.announce(connection, Topic.HOLDS)

        await self._write(job)

    async def drop_hold(self, server: str, username: str, address: str) -> bool:
        """Forget a hold; False where there was none."""

        def job(connection: Connection) -> bool:
            was_there = holds.drop_hold(connection, server, username, address)
            if was_there:
                self._database.announce(connection, Topic.HOLDS)
            return was_there

        return await self._write(job)

    async def held_for(self) -> tuple[tuple[str, str | None], ...]:
        """Return whose holds hold messages (`held_by`), and of which profiles."""
        return await self._database.read(holds.held_for)

    async def hold_waiting(
        self,
        profiles: Collection[str | None],
        *,
        cause: Cause,
        state: str,
        now: datetime,
        pausing: str = "",
    ) -> int:
        """Let all that waits of these profiles wait for a hold instead, and the recipients that wait with it.

        Those in the message's own state follow it, here and in `free`. What is in the state `pausing` and not yet due
        waits on as it does: a hold that is lifted must not cut its pause short. Returns how many messages.
        """
        named, moved = list(profiles), 0
        for start in range(0, len(named), _BATCH):
            some = named[start : start + _BATCH]
            job = partial(
                holds.hold_some,
                profiles=some,
                cause=cause,
                state=state,
                now=now,
                pausing=pausing,
                tell=telling(self.subscribers, "held"),
            )
            moved += await self._in_batches(job)
        return moved

    async def free(
        self,
        held_by: str,
        *,
        profile: str | EllipsisType | None = ...,
        state: str,
        now: datetime,
        keeping: str = "",
        limit: int | None = None,
    ) -> int:
        """Make due what waits for a hold, at most `limit`, and return how many messages.

        `profile` None is nobody's; left out, it is every profile. Recipients that wait for the meaning `keeping` wait
        on, for a person. Time spent held is added to `held_seconds`.
        """
        free = partial(holds.free_some, held_by=held_by, profile=profile, state=state, now=now, keeping=keeping)
        job = partial(free, tell=telling(self.subscribers, "released"))
        return await self._in_batches(job, limit)

    # What accounts have used up of their limits

    async def spent(self) -> tuple[Spent, ...]:
        """Return what is kept of all accounts."""
        return await self._database.read(account_limits.all_spent)

    async def spend(self, spent: Sequence[Spent], forget: Mapping[str, datetime]) -> None:
        """Add to what is kept, all or none, and drop what began before the moment that `forget` names for its kind."""
        await self._write(lambda c: account_limits.add_spent(c, spent, forget))

    async def spent_for(self, purpose: Purpose) -> list[Row]:
        """Return what counts for a purpose: when it was spent, and how many, in the order of time."""
        return await self._database.read(lambda c: account_limits.spent_for(c, purpose))

    async def take(self, purpose: Purpose, rule: TakeRule[Took]) -> Took:
        """Take as many as a rule makes of what all processes have spent, and of the moment; return what it says."""
        return await self._write_alone(lambda c: account_limits.take(c, purpose, rule, self._now(c)))

    async def begin(self, purpose: Purpose, scope: str, quiet_seconds: float, rule: BeginRule) -> Begun:
        """Take as `take`, where the rule is also told what is kept back for those not heard of for so many seconds."""

        def job(connection: Connection) -> Begun:
            now = self._now(connection)
            quiet = now + timedelta(seconds=self.share_seconds - quiet_seconds)
            kept_back = account_limits.kept_back(connection, scope, self._owner, quiet)
            return account_limits.take(connection, purpose, partial(rule, kept_back=kept_back), now)

        return await self._write_alone(job)

    async def adjust_outage(self, rules: Mapping[str, Rule]) -> dict[str, Grant]:
        """Say that we are there, and write for each scope what its rule makes of what others may use in an outage."""
        return await self._write_alone(
            lambda c: account_limits.adjust_outage(c, rules, self._share_lease(), self._now(c))
        )

    @property
    def share_seconds(self) -> float:
        """So long after we were last heard of is ours what we have of the connections and the pace of accounts."""
        return self.durations.shares

    # What each process has of the connections of accounts

    async def adjust_shares(self, rules: Mapping[str, Rule]) -> dict[str, Grant]:
        """Look at what others have of some scopes, and write for each what its rule makes of it; return that."""
        return await self._write_alone(lambda c: account_limits.adjust(c, rules, self._share_lease(), self._now(c)))

    async def lacking_shares(self) -> frozenset[str]:
        """Return the scopes of which some process has less than it wants."""
        return await self._database.read(account_limits.lacking)

    async def renew_shares(self) -> int:
        """Hold all our shares for longer; return their number. To be called long before `durations.shares` is over.

        What others had is forgotten where it has expired, and where we may say that.
        """
        is_judge = self.may_judge or not self.is_shared

        def job(connection: Connection) -> int:
            return account_limits.renew(connection, self._share_lease(), self._now(connection) if is_judge else None)

        return await self._write_alone(job)

    async def drop_shares(self, owner: str | None = None) -> None:
        """Free what we have, or a process that has ended."""
        await self._write_alone(lambda c: account_limits.drop(c, owner or self._owner))

    async def drop_dead_shares(self) -> None:
        """Free what those have who cannot be alive beside us."""
        await self._write_alone(lambda c: account_limits.drop_dead(c, self._owner, self._living))

    async def _take(self, ids: Sequence[str], state: str, due: datetime | None) -> list[StoredMessage]:
        with self._doubting(ids):
            return await self._write(lambda c: claims.take(c, ids, self._new_lease(), state, due))

    async def _take_over(
        self, expired: Moment | None, living: claims.Living | None, doubtful: Collection[str]
    ) -> list[TakenBack]:
        taken: list[str] = []

        def job(connection: Connection) -> list[TakenBack]:
            found = claims.take_over(connection, self._new_lease(), expired, living, doubtful)
            taken[:] = [message.id for message, _ in found]
            return found

        with self._doubting(taken):
            return await self._write(job)

    def _doubting(self, ids: Collection[str]) -> InDoubt:
        """Remember what may have been taken by our lease where the store fails, and forget it where it does not."""
        return InDoubt(self._doubtful, ids)

    # What many write at once, each kind in one go (`relay.store.db.writer`)

    def _add_all(self, connection: Connection, items: Sequence[Sequence[NewMessage]]) -> None:
        news = [new for item in items for new in item]
        writes.insert_messages(connection, news, self._new_lease(), self._clock(), self.subscribers)

    def _take_all(self, connection: Connection, items: Sequence[Due]) -> list[list[StoredMessage]]:
        taken: dict[str, StoredMessage] = {}
        for state in {one.state for one in items}:
            some = [one for one in items if one.state == state]
            ids = [id_ for one in some for id_ in one.ids]
            # They look within moments of each other: what was put off meanwhile is due later than the last of them.
            found = claims.take(connection, ids, self._new_lease(), state, max(one.now for one in some))
            taken |= {message.id: message for message in found}
        return [[taken.pop(id_) for id_ in one.ids if id_ in taken] for one in items]

    def _begin_all(self, connection: Connection, items: Sequence[BegunAttempt]) -> None:
        writes.begin_attempts(connection, items, self._new_lease())

    def _mark_all(self, connection: Connection, items: Sequence[FinalDot]) -> None:
        writes.mark_final_dots(connection, items, self._new_lease())

    def _settle_all(self, connection: Connection, items: Sequence[Settlement]) -> None:
        writes.settle(connection, items, self._new_lease(), self._clock(), self.subscribers)

    async def _write(self, job: Job[T]) -> T:
        return await self._writer.run(job)

    async def _write_alone(self, job: Job[T]) -> T:
        return await self._writer.run(job, is_alone=True)

    async def _in_batches(self, job: BatchJob, limit: int | None = None) -> int:
        """Repeat a job that changes at most as many messages as it is told, so that nobody waits long for its turn."""
        done = 0
        while limit is None or done < limit:
            most = _BATCH if limit is None else min(_BATCH, limit - done)
            changed = await self._write(partial(job, limit=most))
            done += changed
            if changed < most:
                break
        return done

    def _timing(self) -> datetime:
        """Return the time by which leases, and what accounts use up, are counted here: the wall clock may be set."""
        return self._steady.now() if self._steady is not None else self._clock()

    def _share_lease(self) -> Lease:
        return Lease(self._owner, self._database.after(timedelta(seconds=self.durations.shares), self._timing()))

    def _now(self, connection: Connection) -> datetime:
        """Return the time by which leases end."""
        now = self._database.now(connection, self._timing())
        if self.is_shared:
            self._store_clock.heard(now)
        return now

    def _new_lease(self) -> Lease:
        return Lease(self._owner, self._database.after(self._lease, self._timing()), self._lease)
