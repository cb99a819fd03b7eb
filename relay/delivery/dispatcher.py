"""The dispatcher: finds out which waiting messages are due, and lets each account have its own carrier for them.

A carrier uses at most the connections its account may have, so one dead or slow account never delays another. One of
an account with a pace takes a message only when that may go, from each profile in turn. The store says what waits;
nothing about single messages is kept here.
"""

import asyncio
import time
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Protocol

from relay import log
from relay.delivery.lateness import Lateness
from relay.delivery.lifecycle import State
from relay.delivery.lifting import free, lift
from relay.delivery.pacing import is_limited
from relay.delivery.postman import Postman
from relay.directory.model import Account, Directory, Meaning, Profile, Server
from relay.short_turns import in_short_turns
from relay.store.duties import Lead, Unrivalled
from relay.store.errors import StoreError
from relay.store.holds import Cause
from relay.store.messages import HoldRow, StoredMessage

_LOOK_SECONDS = 1.0  # how often holds are looked at for new credentials, and the store for what commands wrote
_REST = 2.0  # times as long as the last look
_SHARE_SECONDS = 0.2  # how soon what other processes leave is used
_TROUBLE_SECONDS = 5.0  # after a store that did not answer
_LOST_SECONDS = 5.0  # how often what other machines have let expire is looked for


class Claims(Protocol):
    """What this process may have of an account's connections (`relay.delivery.shares`)."""

    def claims(self, scope: str, limit: int) -> int:
        """Return how many messages may be under way at once, at least one."""

    def expect(self, scope: str, limit: int, backlog: int) -> None:
        """Say how many connections what waits on disk would use."""


class Whole:
    """There is no other process."""

    def claims(self, scope: str, limit: int) -> int:  # noqa: ARG002
        """All that the account may have."""
        return limit

    def expect(self, scope: str, limit: int, backlog: int) -> None:
        """Nobody needs to know."""


class Dispatcher:
    """One for a process. `run` goes on for ever; `wake` lets it look at once.

    Of several processes over one store the one that has the `lead` looks after what is held, and frees what a changed
    directory lets go. `claims` is what this one may have of the connections of each account.
    """

    def __init__(self, postman: Postman, claims: Claims | None = None, lead: Lead | None = None) -> None:
        self._lead = postman.lead = lead or Unrivalled()
        self._postman = postman
        self._claims = claims or Whole()
        self._office = postman.office
        self._queue = postman.queue
        self._accounts = postman.accounts
        self._lateness = Lateness(postman)
        self._wake = asyncio.Event()
        self._carriers: dict[Account, asyncio.Task[None]] = {}
        self._profiles: dict[Account, deque[str | None]] = {}  # whose mail a carrier has
        self._more: dict[Account, asyncio.Event] = {}  # set where more may be due than its carrier took
        self._directory = self._office.routing().directory
        self._is_directory_new = True
        self._known_of: Directory | None = None
        self._known: frozenset[Account] = frozenset()
        self._is_stopping = False
        self._is_resting = False
        self._lost_at = 0.0
        self._seen_at = time.monotonic()
        postman.books.on_change = self._wake.set
        postman.is_behind = self._carriers.__contains__

    def wake(self) -> None:
        """Look at once: a message was stored, a directory changed, a hold was lifted."""
        self._wake.set()

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
                    await self._postman.books.take_back()
                    is_back, self._lost_at = True, began + _LOST_SECONDS
                if self._is_directory_new and self._lead.is_ours:
                    await self._follow_directory()
                await self._look()
            except StoreError as error:
                log.broken(str(error))
                await asyncio.sleep(_TROUBLE_SECONDS)
            except Exception:  # whatever it is, what waits must not wait for ever
                log.broken("the dispatcher met a fault of ours", exc_info=True)
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
        self._office.pacing.close()
        if self._carriers:
            await asyncio.wait(set(self._carriers.values()))
        await self._lateness.stop()

    def directory_changed(self) -> None:
        """Free what is held for an account that no longer sends for its profile, and try what has another way now."""
        self._office.pacing.disband()  # limits may be others now
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
        """Lift what is over, then start a carrier for each account with due mail that has none."""
        for hold in self._accounts.holds():
            self._seen_at = time.monotonic()  # a command that gives a secret may take seconds, for each of many
            if not self._lead.is_ours:
                break
            await self._look_at(hold)
        if self._is_stopping or self._is_resting:
            return
        now = self._now()
        for account, profiles in self._by_account(await self._queue.due_times(), now).items():
            self._look_for_late(account, profiles)
            if account in self._carriers:
                self._more[account].set()
                mine = self._profiles[account]
                mine.extend(profile for profile in profiles if profile not in mine)
                continue
            if not self._may_go_on(account) or not (self._lead.is_ours or self._accounts.hold_of(account) is None):
                continue
            self._profiles[account] = deque(profiles)
            self._more[account] = asyncio.Event()
            carrier = asyncio.create_task(self._work(account, self._profiles[account], self._more[account]))
            self._carriers[account] = carrier
            carrier.add_done_callback(partial(self._end, account))

    def _is_lost_due(self, now: float) -> bool:
        """Whether it is time to look for what other machines have let expire, and we may say that they have."""
        return now >= self._lost_at and self._queue.may_judge and not self._is_resting

    def _look_for_late(self, account: Account, profiles: Collection[str | None]) -> None:
        server = self._server(account)
        if server is not None and is_limited(server):
            self._lateness.look(server, account, profiles)

    async def _follow_directory(self) -> None:
        """Let what waits go by the directory in effect. Done again where the store fails in the middle of it."""
        self._is_directory_new, directory = False, self._office.routing().directory
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

    def _end(self, account: Account, _: asyncio.Task[None]) -> None:
        self._carriers.pop(account, None)
        self._profiles.pop(account, None)
        self._more.pop(account, None)
        self.wake()

    async def _look_at(self, hold: HoldRow) -> None:
        account, now = Account(hold.server, hold.username), self._now()
        if account not in await self._accounts_there_are():
            why = "the directory has this account no more"
            await lift(self._queue, self._accounts, account, now, with_pairs=True, why=why)
        elif hold.meaning == Meaning.LOGIN_REFUSED and await self._has_new_secret(hold):
            await lift(self._queue, self._accounts, account, now, with_pairs=False)
        elif self._accounts.is_probe_due(hold, now):
            await self._queue.put_hold(self._accounts.begin_probe(hold, now), self._lead.duty)
            await free(self._queue, str(account), now, limit=1)

    async def _accounts_there_are(self) -> frozenset[Account]:
        """Return the accounts of the directory in effect; a hold over any other holds nothing any more."""
        directory = self._office.routing().directory
        if directory is not self._known_of:  # those of very many agents are found in a thread
            self._known = await in_short_turns(frozenset, directory.accounts())
            self._known_of = directory
        return self._known

    async def _has_new_secret(self, hold: HoldRow) -> bool:
        """Whether the secret that would log in now is another than the one that was refused."""
        route = self._office.routing().route_of_account(Account(hold.server, hold.username))
        version = await self._office.secret_version(route) if route else None
        return version is not None and version != hold.secret_version

    def _by_account(self, due: Mapping[str | None, datetime], now: datetime) -> Mapping[Account, list[str | None]]:
        accounts: dict[Account, list[str | None]] = {}
        for profile, moment in due.items():
            if moment <= now:
                accounts.setdefault(self._account_of(profile), []).append(profile)
        return accounts

    async def _work(self, account: Account, profiles: deque[str | None], more: asyncio.Event) -> None:
        """Make the attempts of one account until nothing of it is due."""
        running: set[asyncio.Task[None]] = set()
        ready: deque[StoredMessage] = deque()
        more.set()
        try:
            while self._may_go_on(account):
                hold = self._accounts.hold_of(account)
                is_probe = hold is not None and self._accounts.is_probing(account)
                if hold is not None and not is_probe:
                    await self._hold_waiting(account, tuple(profiles), hold)
                    break
                running = {attempt for attempt in running if not attempt.done()}
                server = self._server(account)
                connections = 1 if is_probe else self._connections(server, account)
                limit = self._claims.claims(self._scope(server, account), connections)
                begun = set[asyncio.Task[None]]()
                if len(running) < limit and server is not None and is_limited(server):
                    more.clear()
                    begun = await self._begin_in_turn(server, account, profiles)
                    self._expect(account, len(running | begun) + 1 if len(running | begun) >= limit else 0)
                elif len(running) < limit:
                    if not ready and more.is_set():
                        ready.extend(await self._claim_all(account, profiles, limit, more))
                    begun = self._begin(ready, limit - len(running))
                running |= begun
                if not running:
                    break
                is_full = len(running) >= limit
                if is_full or not begun:
                    # Where others have connections, it may soon have more of them.
                    pause = _SHARE_SECONDS if is_full and limit < connections else None
                    await _first(running, None if is_full else more, pause)
        except StoreError as error:
            log.broken(str(error))
            await asyncio.sleep(_TROUBLE_SECONDS)
        except Exception:
            # The account's mail waits on and is tried again; the other accounts know nothing of it.
            log.broken("the mail of an account met a fault of ours", account=str(account), exc_info=True)
            await asyncio.sleep(_TROUBLE_SECONDS)
        finally:
            self._expect(account, 0)
            for message in ready:
                await self._postman.books.give_back(message, pause=0.0)
            if running:
                await asyncio.wait(running)

    async def _claim_all(
        self, account: Account, profiles: Collection[str | None], limit: int, more: asyncio.Event
    ) -> list[StoredMessage]:
        """Take as many as there are connections, and not one by one: each look into the store costs as much."""
        more.clear()
        claimed = await self._claim(profiles, limit)
        if len(claimed) >= limit:
            more.set()
        connections = self._connections(self._server(account), account)
        self._expect(account, connections if len(claimed) >= limit else 0)
        return claimed

    def _begin(self, ready: deque[StoredMessage], most: int) -> set[asyncio.Task[None]]:
        some = [ready.popleft() for _ in range(min(most, len(ready)))]
        return {asyncio.create_task(self._postman.attempt(message)) for message in some}

    async def _begin_in_turn(
        self, server: Server, account: Account, profiles: deque[str | None]
    ) -> set[asyncio.Task[None]]:
        """Begin the attempt of one message when it may go, of the profile whose turn it is; none where nothing is due.

        A profile without due mail loses its place.
        """
        while profiles:
            profile = profiles[0]
            profiles.rotate(-1)
            turn = await self._office.pacing.turn(server, account, profile)
            if turn is None:
                break
            is_passed_on = False
            try:
                if not self._may_go_on(account):
                    break
                for message in await self._claim([profile], 1):
                    is_passed_on = True
                    return {asyncio.create_task(self._postman.attempt(message, turn))}
            finally:
                if not is_passed_on:
                    turn.end()
            profiles.remove(profile)
        return set()

    def _may_go_on(self, account: Account) -> bool:
        is_slow = self._accounts.slowness_of(account, self._now()) is not None
        is_ending = self._is_stopping or self._is_resting
        return not is_ending and not is_slow and not self._is_spent(account)

    def _is_spent(self, account: Account) -> bool:
        """Whether an account may send to nobody until some of its day's budget is free again."""
        server = self._server(account)
        return server is not None and self._office.pacing.room(server, account) < 1

    async def _claim(self, profiles: Collection[str | None], count: int) -> list[StoredMessage]:
        if count <= 0:
            return []
        return await self._queue.claim(tuple(profiles), count, self._now(), str(State.SENDING))

    async def _hold_waiting(self, account: Account, profiles: Collection[str | None], hold: HoldRow) -> None:
        if not self._lead.is_ours:
            return
        messages = await self._queue.hold_waiting(
            profiles,
            cause=Cause(str(account), hold.meaning, f"{hold.meaning}: {hold.reason}"),
            state=str(State.HELD),
            now=self._now(),
            pausing=str(State.UNKNOWN),
        )
        self._office.telling.waiting_held(account, hold, messages)

    def _connections(self, server: Server | None, account: Account) -> int:
        return self._accounts.connections(server, account) if server else 1

    def _expect(self, account: Account, backlog: int) -> None:
        """Say how many connections what waits for an account would use."""
        if (server := self._server(account)) is not None:
            self._claims.expect(server.scope(account), self._connections(server, account), backlog)

    @staticmethod
    def _scope(server: Server | None, account: Account) -> str:
        return server.scope(account) if server else str(account)

    def _server(self, account: Account) -> Server | None:
        return self._office.routing().directory.servers.get(account.server)

    def _account_of(self, profile: str | None) -> Account:
        """Return whose carrier has the mail of a profile; one for all whose route is gone."""
        directory = self._office.routing().directory
        found: Profile | None = directory.profile(profile) if profile is not None else None
        if profile is not None and found is None:
            return Account("", profile)
        account = directory.account_of(found) if found else self._default_account()
        return account or Account("", profile or "")

    def _default_account(self) -> Account | None:
        route = self._office.routing().default_route()
        return route.account if route else None

    def _now(self) -> datetime:
        return self._postman.clock()


async def _first(running: Collection[asyncio.Task[None]], more: asyncio.Event | None, seconds: float | None) -> None:
    """Wait for the end of one of them, for more where that is of use, and no longer than so many seconds."""
    coming = [asyncio.create_task(more.wait())] if more is not None else []
    try:
        await asyncio.wait({*running, *coming}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in coming:
            each.cancel()
