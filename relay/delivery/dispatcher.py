"""The dispatcher: finds out which waiting messages are due, and lets each account have its own worker for them.

A worker uses at most the connections its account may have, so one dead or slow account never delays another. The
store says what waits; nothing about single messages is kept here.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial

from relay import log
from relay.delivery.lifecycle import State
from relay.delivery.lifting import lift
from relay.delivery.postman import Postman
from relay.directory.model import Account, Meaning, Profile
from relay.secrets.secret import secret_ref
from relay.secrets.sources import SecretUnavailable
from relay.store.errors import StoreError
from relay.store.messages import HoldRow, StoredMessage

_LOOK_SECONDS = 1.0  # how often holds are looked at for new credentials, and the store for what commands wrote
_TROUBLE_SECONDS = 5.0  # after a store that did not answer


class Dispatcher:
    """One for a relay. `run` goes on for ever; `wake` lets it look at once."""

    def __init__(self, postman: Postman) -> None:
        self._postman = postman
        self._office = postman.office
        self._queue = postman.queue
        self._accounts = postman.accounts
        self._wake = asyncio.Event()
        self._workers: dict[Account, asyncio.Task[None]] = {}
        self._is_stopping = False
        postman.on_change = self._wake.set

    def wake(self) -> None:
        """Look at once: a message was stored, a directory changed, a hold was lifted."""
        self._wake.set()

    async def run(self) -> None:
        """Take back what an earlier run left behind, then dispatch for ever."""
        is_back = False
        while True:
            self._wake.clear()
            try:
                if not is_back:
                    await self._postman.take_back()
                    is_back = True
                await self._look()
            except StoreError as error:
                log.broken(str(error))
                await asyncio.sleep(_TROUBLE_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK_SECONDS)

    async def stop(self) -> None:
        """Start nothing more, and let what is under way end; the caller sets a limit."""
        self._is_stopping = True
        if self._workers:
            await asyncio.wait(set(self._workers.values()))

    async def directory_changed(self) -> None:
        """Free what is held for an account that no longer sends for its profile."""
        for held_by, profile in await self._queue.held_for():
            if held_by != str(self._account_of(profile)):
                await self._queue.free(held_by, profile=profile, state=str(State.QUEUED), now=self._now())
        self.wake()

    async def _look(self) -> None:
        """Lift what is over, then start a worker for each account with due mail that has none."""
        for hold in self._accounts.holds():
            await self._look_at(hold)
        if self._is_stopping:
            return
        now = self._now()
        for account, profiles in self._by_account(await self._queue.due_times(), now).items():
            if account in self._workers or self._accounts.slowness_of(account, now):
                continue
            worker = asyncio.create_task(self._work(account, profiles))
            self._workers[account] = worker
            worker.add_done_callback(partial(self._end, account))

    def _end(self, account: Account, _: asyncio.Task[None]) -> None:
        self._workers.pop(account, None)
        self.wake()

    async def _look_at(self, hold: HoldRow) -> None:
        account, now = Account(hold.server, hold.username), self._now()
        if hold.meaning == Meaning.LOGIN_REFUSED and await self._has_new_secret(hold):
            await lift(self._queue, self._accounts, account, now)
        elif self._accounts.is_probe_due(hold, now):
            await self._queue.put_hold(self._accounts.begin_probe(hold, now))
            await self._queue.free(str(account), state=str(State.QUEUED), now=now, limit=1)

    async def _has_new_secret(self, hold: HoldRow) -> bool:
        """Whether the secret that would log in now is another than the one that was refused."""
        route = self._postman.route_of_account(Account(hold.server, hold.username))
        ref = secret_ref(route.server, route.profile, override=route.override) if route else None
        if ref is None:
            return False
        try:
            secret = await self._office.secrets.secret(ref)
        except SecretUnavailable:
            return False
        return secret is not None and secret.version != hold.secret_version

    def _by_account(self, due: Mapping[str | None, datetime], now: datetime) -> Mapping[Account, list[str | None]]:
        accounts: dict[Account, list[str | None]] = {}
        for profile, moment in due.items():
            if moment <= now:
                accounts.setdefault(self._account_of(profile), []).append(profile)
        return accounts

    async def _work(self, account: Account, profiles: Collection[str | None]) -> None:
        """Make the attempts of one account until nothing of it is due."""
        running: set[asyncio.Task[None]] = set()
        try:
            while not self._is_stopping and not self._accounts.slowness_of(account, self._now()):
                hold = self._accounts.hold_of(account)
                is_probe = hold is not None and self._accounts.is_probing(account)
                if hold is not None and not is_probe:
                    await self._hold_waiting(account, profiles, hold)
                    break
                limit = 1 if is_probe else self._connections(account)
                claimed = await self._claim(profiles, limit - len(running))
                running |= {asyncio.create_task(self._postman.attempt(message)) for message in claimed}
                if not running:
                    break
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        except StoreError as error:
            log.broken(str(error))
            await asyncio.sleep(_TROUBLE_SECONDS)
        finally:
            if running:
                await asyncio.wait(running)

    async def _claim(self, profiles: Collection[str | None], count: int) -> list[StoredMessage]:
        if count <= 0:
            return []
        return await self._queue.claim(profiles, count, self._now(), str(State.SENDING))

    async def _hold_waiting(self, account: Account, profiles: Collection[str | None], hold: HoldRow) -> None:
        await self._queue.hold_waiting(
            profiles,
            held_by=str(account),
            state=str(State.HELD),
            reason=f"{hold.meaning}: {hold.reason}",
            now=self._now(),
        )

    def _connections(self, account: Account) -> int:
        server = self._office.routing().directory.servers.get(account.server)
        return server.max_connections if server else 1

    def _account_of(self, profile: str | None) -> Account:
        """Return whose worker has the mail of a profile; one for all whose route is gone."""
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
