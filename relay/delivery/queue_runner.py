"""The queue runner: finds out which waiting messages are due, and lets each account have a worker of its own for them.

It also looks at what is held, and lifts what holds it no more. The store says what waits; nothing about single messages
is kept here.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from relay import log
from relay.delivery.account_worker import AccountWorker, Claims, Whole
from relay.delivery.attempt import Attempts
from relay.delivery.holds import free, lift
from relay.delivery.outcome import State
from relay.directory.directory import Directory
from relay.directory.model import Account, Meaning, Profile, Server
from relay.limits.limiter import is_limited
from relay.store.db.clocks import ClockWatch
from relay.store.db.errors import StoreError
from relay.store.queue.claims import Late
from relay.store.queue.messages import HoldRow
from relay.system.process import in_short_turns

_LOOK_SECONDS = 1.0  # how often holds are looked at for new credentials, and the store for what commands wrote
_REST = 2.0  # times as long as the last look
_TROUBLE_SECONDS = 5.0  # after a store that did not answer
_FAR_SECONDS = 3600.0  # how often what is due too late is looked for: a clock was wrong when that was written
_LOST_SECONDS = 5.0  # how often what other machines have let expire is looked for
_LATE_SECONDS = 10.0  # how often the mail of an account with limits is looked at that has waited too long
_MOST_LATE = 100  # messages and profiles at once
# What is due for less has its turn soon, and the attempt says more than we could.
_DUE_SECONDS = 60.0


class QueueRunner:
    """One for a process. `run` goes on for ever; `wake` lets it look at once.

    Of several processes over one store the one that has the lead looks after what is held, and frees what a changed
    directory lets go. `claims` is what this one may have of the connections of each account. `clock` follows the wall
    clock, where it is what is due by.
    """

    def __init__(
        self,
        attempts: Attempts,
        claims: Claims | None = None,
        clock: ClockWatch | None = None,
    ) -> None:
        self._lead = attempts.lead
        self._attempts = attempts
        self._recorder = attempts.recorder
        self._claims = claims or Whole()
        self._limits = attempts.limits
        self._queue = self._recorder.queue
        self._accounts = attempts.accounts
        self._overdue = OverdueMail(attempts)
        self._wake = self._recorder.due
        self._workers: dict[Account, AccountWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # theirs
        self._directory = self._attempts.routing().directory
        self._is_directory_new = True
        self._known_of: Directory | None = None
        self._known: frozenset[Account] = frozenset()
        self._taken_over: dict[str, str] = {}  # servers that are away, with those that send their mail
        self._is_stopping = False
        self._is_resting = False
        self._lost_at = 0.0
        self._clock = clock
        self._pulled_at = -_FAR_SECONDS
        self._written = 0
        self._seen_at = time.monotonic()

    def wake(self) -> None:
        """Look at once: a message was stored, a directory changed, a hold was lifted."""
        self._wake.set()

    def is_behind(self, account: Account) -> bool:
        """Whether mail of an account that is due waits for its turn."""
        return account in self._workers

    def rest(self, *, is_wanted: bool) -> None:
        """Take nothing from the queue for as long as that is wanted; what is under way ends."""
        self._is_resting = is_wanted
        self.wake()

    @property
    def silent_seconds(self) -> float:
        """How long ago it last went a step; more than a few seconds only where something it waits for hangs."""
        return time.monotonic() - self._seen_at

    async def run(self) -> None:
        """Take back what an earlier run left behind, then dispatch for ever."""
        is_back = False
        while True:
            self._wake.clear()
            began = self._seen_at = time.monotonic()
            try:
                if not is_back or self._queue.has_doubts or self._is_lost_due(began):
                    await self._recorder.take_back()
                    is_back, self._lost_at = True, began + _LOST_SECONDS
                await self._follow_clock(began)
                if self._is_directory_new and self._lead.is_ours:
                    await self._follow_directory()
                await self._look()
            except StoreError as error:
                log.broken(str(error))
                await asyncio.sleep(_TROUBLE_SECONDS)
            except Exception:  # whatever it is, what waits must not wait for ever
                log.broken("the queue runner met a fault of ours", exc_info=True)
                await asyncio.sleep(_TROUBLE_SECONDS)
            # However often it is woken: where a look takes long, the others have most of the time.
            await asyncio.sleep(min(_LOOK_SECONDS, _REST * (time.monotonic() - began)))
            # Not wait_for: before Python 3.12 it forgets that it was cancelled where a wake comes at the same moment.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()

    async def stop(self) -> None:
        """Start nothing more, and let what is under way end; the caller sets a limit."""
        self._is_stopping = True
        self._limits.close()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        await self._overdue.stop()
        await self._attempts.backups.stop()

    def directory_changed(self) -> None:
        """Free what is held for an account that no longer sends for its profile, and try what has another way now."""
        self._limits.disband()  # limits may be others now
        self._is_directory_new = True
        self.wake()

    def lead_changed(self) -> None:
        """Look at everything anew where the lead has become ours; where it is no more, no probe of ours is left."""
        if self._lead.is_ours:
            self._is_directory_new = True
        else:
            self._accounts.drop_probes()
        self.wake()

    async def _look(self) -> None:
        """Lift what is over, then start a worker for each account with due mail that has none."""
        for hold in self._accounts.holds():
            self._seen_at = time.monotonic()  # a command that gives a secret may take seconds, for each of many
            if not self._lead.is_ours:
                break
            await self._look_at(hold)
        if self._is_stopping or self._is_resting:
            return
        now = self._now()
        if self._accounts.servers.known or self._taken_over:
            await self._look_at_servers()
        for account, profiles in self._by_account(await self._queue.due_times(), now).items():
            self._look_for_late(account, profiles)
            if account in self._workers:
                self._workers[account].take_more(profiles)
            elif self._may_begin(account):
                self._begin(account, profiles)

    async def _look_at_servers(self) -> None:
        """Probe those that are away; where a backup took over, or no longer has to, let what waits go the new way."""
        backups = self._attempts.backups
        backups.look()
        before, now = self._taken_over, backups.taken_over()
        if before == now or not self._lead.is_ours:
            return
        await self._free_strays()
        others = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        directory = self._attempts.routing().directory
        for profile in await self._queue.due_times():
            server, _ = self._way(profile, directory)
            if server is not None and server.name in others:
                await self._queue.make_due(self._now(), profile=profile, pausing=str(State.UNKNOWN))
        self._taken_over = now

    async def _follow_clock(self, began: float) -> None:
        """Where the clock was set, let what waits be due as before; and see that nothing waits longer than it may."""
        longest = self._recorder.schedule.longest
        if self._clock is not None:
            has_written, self._written = self._queue.written != self._written, self._queue.written
            seconds = await self._clock.look(longest, has_written=has_written)
            if seconds:
                self._accounts.move(seconds)
                log.clock_set(seconds=round(seconds))
        if self._lead.is_ours and began - self._pulled_at >= _FAR_SECONDS:
            self._pulled_at = began
            await self._queue.pull_in(longest)

    def _is_lost_due(self, now: float) -> bool:
        """Whether it is time to look for what other machines have let expire, and we may say that they have."""
        return now >= self._lost_at and self._queue.may_judge and not self._is_resting

    def _look_for_late(self, account: Account, profiles: Collection[str | None]) -> None:
        server = self._server(account)
        if server is not None and is_limited(server):
            self._overdue.look(server, account, profiles)

    async def _follow_directory(self) -> None:
        """Let what waits go by the directory in effect. Done again where the store fails in the middle of it."""
        self._is_directory_new, directory = False, self._attempts.routing().directory
        try:
            await self._free_strays()
            for profile in await self._queue.due_times():
                if self._way(profile, directory) != self._way(profile, self._directory):
                    await self._queue.make_due(self._now(), profile=profile, pausing=str(State.UNKNOWN))
        except BaseException:
            self._is_directory_new = True
            raise
        self._directory = directory

    @staticmethod
    def _way(profile: str | None, directory: Directory) -> tuple[Server | None, Account | None]:
        """Return the server and account by which mail of a profile leaves."""
        found = directory.profile(profile) if profile is not None else None
        if found is not None:
            return directory.server_of(found), directory.account_of(found)
        server = directory.servers.get(directory.default_server or "") if profile is None else None
        return server, Account(server.name, server.username) if server else None

    async def _free_strays(self) -> None:
        """Free what is held for an account that is not held, or no longer sends for its profile.

        A run that dies while it lifts a hold leaves the one behind, a changed directory the other.
        """
        held = {str(Account(hold.server, hold.username)) for hold in self._accounts.holds()}
        for held_by, profile in await self._queue.held_for():
            if held_by not in held or held_by != str(self._account_of(profile)):
                freed = await free(self._queue, held_by, self._now(), profile=profile)
                log.released(account=held_by, profile=profile, messages=freed)

    def _begin(self, account: Account, profiles: Collection[str | None]) -> None:
        may_go_on = partial(self._may_go_on, account)
        self._workers[account] = worker = AccountWorker(account, profiles, self._attempts, self._claims, may_go_on)
        task = asyncio.create_task(worker.run())
        self._tasks.add(task)
        task.add_done_callback(partial(self._end, account))

    def _end(self, account: Account, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._workers.pop(account, None)
        self.wake()

    async def _look_at(self, hold: HoldRow) -> None:
        account, now = Account(hold.server, hold.username), self._now()
        if account not in await self._accounts_there_are():
            why = "the directory has this account no more"
            await lift(self._queue, self._accounts, account, now, with_pairs=True, why=why)
        elif hold.meaning == Meaning.LOGIN_REFUSED and await self._has_new_secret(hold):
            await lift(self._queue, self._accounts, account, now, with_pairs=False)
        elif self._accounts.is_probe_due(hold, now):
            await self._queue.put_hold(self._accounts.begin_probe(hold, now), self._lead.lease)
            await free(self._queue, str(account), now, limit=1)

    async def _accounts_there_are(self) -> frozenset[Account]:
        """Return the accounts of the directory in effect; a hold over any other holds nothing any more."""
        directory = self._attempts.routing().directory
        if directory is not self._known_of:  # those of very many agents are found in a thread
            self._known = await in_short_turns(frozenset, directory.accounts())
            self._known_of = directory
        return self._known

    async def _has_new_secret(self, hold: HoldRow) -> bool:
        """Whether the secret that would log in now is another than the one that was refused."""
        route = self._attempts.routing().route_of_account(Account(hold.server, hold.username))
        version = await self._attempts.secret_version(route) if route else None
        return version is not None and version != hold.secret_version

    def _by_account(self, due: Mapping[str | None, datetime], now: datetime) -> Mapping[Account, list[str | None]]:
        accounts: dict[Account, list[str | None]] = {}
        for profile, moment in due.items():
            if moment <= now:
                accounts.setdefault(self._account_of(profile), []).append(profile)
        return accounts

    def _may_begin(self, account: Account) -> bool:
        is_held = not self._lead.is_ours and self._accounts.hold_of(account) is not None
        return self._may_go_on(account) and not is_held and not self._is_spent(account)

    def _may_go_on(self, account: Account) -> bool:
        is_slow = self._accounts.slowness_of(account, self._now()) is not None
        is_ending = self._is_stopping or self._is_resting
        return not is_ending and not is_slow

    def _is_spent(self, account: Account) -> bool:
        """Whether an account may send to nobody until some of its day's budget is free again."""
        server = self._server(account)
        return server is not None and self._limits.room(server, account) < 1

    def _server(self, account: Account) -> Server | None:
        return self._attempts.routing().directory.servers.get(account.server)

    def _account_of(self, profile: str | None) -> Account:
        """Return whose worker has the mail of a profile; one for all whose route is gone."""
        directory = self._attempts.routing().directory
        found: Profile | None = directory.profile(profile) if profile is not None else None
        if profile is not None and found is None:
            return Account("", profile)
        server = directory.server_of(found) if found else directory.servers.get(directory.default_server or "")
        if server is not None and server.backup and server.name in self._accounts.servers.known:
            route = self._attempts.routing().route_of(found) if found else self._attempts.routing().default_route()
            return self._attempts.backups.way(route).account if route else Account("", profile or "")
        account = directory.account_of(found) if found else self._default_account()
        return account or Account("", profile or "")

    def _default_account(self) -> Account | None:
        route = self._attempts.routing().default_route()
        return route.account if route else None

    def _now(self) -> datetime:
        return self._recorder.clock()


class OverdueMail:
    """Mail that waits for its account's limits longer than a sender should have to: it is warned about, and given up.

    Nothing is tried for it, so no attempt would notice. Waiting for a limit is no hold: its time counts.
    """

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._recorder = attempts.recorder
        self._limits = attempts.limits
        self._looks: dict[Account, asyncio.Task[None]] = {}
        self._looked: dict[Account, float] = {}

    def look(self, server: Server, account: Account, profiles: Collection[str | None]) -> None:
        """Look after the mail of these profiles, which waits for this account, unless that was done just now."""
        now = time.monotonic()
        if account in self._looks or now < self._looked.get(account, 0.0) + _LATE_SECONDS:
            return
        self._looked[account] = now
        task = self._looks[account] = asyncio.create_task(self._look(server, account, tuple(profiles)))
        task.add_done_callback(lambda _: self._looks.pop(account))

    async def stop(self) -> None:
        """Wait for what is under way."""
        if self._looks:
            await asyncio.wait(set(self._looks.values()))

    async def _look(self, server: Server, account: Account, profiles: Sequence[str | None]) -> None:
        recorder = self._recorder
        now = recorder.clock()
        steady = now - timedelta(seconds=recorder.queue.ahead())
        late = Late(
            due=now - timedelta(seconds=_DUE_SECONDS),
            seconds=recorder.schedule.warn_after,
            warned_seconds=recorder.schedule.give_up_after,
            pausing=str(State.UNKNOWN),
        )
        for start in range(0, len(profiles), _MOST_LATE):
            some = profiles[start : start + _MOST_LATE]
            try:
                messages = await recorder.queue.claim_late(some, late, _MOST_LATE, steady, str(State.SENDING))
            except StoreError as error:
                log.broken(str(error))
                return
            for message in messages:
                await self._attempts.put_off(message, self._limits.reason(server, account))
