"""What people do with the queue and the accounts by hand, with or without a relay that runs over the same store."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import ceil
from typing import Any

from relay import log
from relay.control.json_values import fields_of
from relay.control.messages.records import rfc3339
from relay.control.results import AccountState, OpenAccount, TroubledAccount, UnreachedServer
from relay.delivery import administrative_actions
from relay.delivery.holds import Accounts, lift
from relay.delivery.outcome import State
from relay.directory.directory import Directory
from relay.directory.model import Account, Meaning, Server
from relay.directory.routing import Routing
from relay.limits.limiter import Limiter
from relay.store.queue.messages import HoldRow, Leased, StoredMessage
from relay.store.queue.queue import Queue


class StoreQueueActions:
    """Actions on the queue. `on_change` tells a running relay, where one runs here, that something changed.

    `taken_over` returns which server sends the mail of which ones that are away, by their names.
    """

    def __init__(
        self,
        queue: Queue,
        routing: Callable[[], Routing],
        accounts: Accounts,
        *,
        on_change: Callable[[], None] | None = None,
        connections: Callable[[], Mapping[str, int]] | None = None,
        limiter: Limiter | None = None,
        taken_over: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._taken_over = taken_over
        self._queue = queue
        self._routing = routing
        self._accounts = accounts
        self._on_change = on_change
        self._connections = connections
        self._limiter = limiter

    async def retry(self, ids: Sequence[str] | None, profile: str | None) -> int:
        """Make messages due: these, those of a profile, or all. Held ones stay. Return how many are.

        What a server may have already waits on, unless a person means that very message.
        """
        now = datetime.now(UTC)
        if ids is not None:
            count = sum([await self._retry(id_, now) for id_ in ids])
        else:
            count = await self._queue.make_due(
                now, profile=... if profile is None else profile, pausing=str(State.UNKNOWN)
            )
        self._tell_change()
        return count

    async def hold(self, id_: str, /) -> bool:
        """Hold a message."""
        is_held = await self._queue.edit(id_, administrative_actions.hold(datetime.now(UTC)))
        if is_held:
            log.held(**await self._facts(id_), reason=administrative_actions.HELD_BY_HAND)
        return is_held

    async def release(self, id_: str, /) -> bool:
        """Release a message that is held."""
        is_released = await self._queue.edit(id_, administrative_actions.release(datetime.now(UTC)))
        if is_released:
            log.released(**await self._facts(id_))
        self._tell_change()
        return is_released

    async def _facts(self, id_: str) -> dict[str, Any]:
        """Return what the log says of a message that a person changed."""
        message = await self._queue.message(id_)
        if message is None:
            return {"id": id_}
        return {"id": id_, "message_id": message.message_id or None, "profile": message.profile, "state": message.state}

    async def remove(self, id_: str, /) -> bool:
        """Remove a message."""
        return await self._queue.edit(id_, administrative_actions.remove(datetime.now(UTC)))

    async def export(self, id_: str, /) -> AsyncIterator[bytes] | None:
        """Return a message as it came."""
        return self._queue.chunks(id_)

    def accounts(self) -> list[OpenAccount]:
        """Return the accounts of the directory, and those that are held although it no longer has them."""
        now = datetime.now(UTC)
        users = _users(self._routing().directory)
        holds = self._accounts.holds()
        for hold in holds:
            users.setdefault(Account(hold.server, hold.username), [])
        whole = {Account(hold.server, hold.username): hold for hold in holds if not hold.address}
        pairs = [hold for hold in holds if hold.address]
        rows = [(account, whole.get(account)) for account in users]
        rows += [(Account(hold.server, hold.username), hold) for hold in pairs]
        connections = self._connections() if self._connections is not None else {}
        return [
            OpenAccount(
                **fields_of(self._state(account, hold, users[account], now)),
                connections=connections.get(str(account), 0),
            )
            for account, hold in rows
        ]

    def troubled(self) -> list[TroubledAccount]:
        """Return those of `accounts` that are held or slowed. It may be called in a thread."""
        now = datetime.now(UTC)
        holds = self._accounts.holds()
        if not holds and self._accounts.is_quick(now):
            return []
        records = []
        users = _users(self._routing().directory)
        for hold in holds:
            account = Account(hold.server, hold.username)
            state = self._state(account, hold, users.get(account, []), now)
            until = rfc3339(_next_probe(hold))
            records.append(TroubledAccount(**fields_of(state), means=hold.meaning, until=until))
        whole = {Account(hold.server, hold.username) for hold in holds if not hold.address}
        for account, names in users.items():
            slow = None if account in whole else self._accounts.slowness_of(account, now)
            if slow is not None:
                state = self._state(account, None, names, now)
                until = rfc3339(slow.until)
                records.append(TroubledAccount(**fields_of(state), means=str(Meaning.THROTTLE), until=until))
        return records

    def unreached(self) -> list[UnreachedServer]:
        """Return the servers of the directory that nobody gets through to."""
        servers, taken = self._routing().directory.servers, self._taken_over()
        return [
            UnreachedServer(
                server=one.server,
                since=rfc3339(one.since),
                times=one.times,
                phase=str(one.phase),
                reason=one.why,
                backup=taken.get(one.server, ""),
            )
            for one in self._accounts.servers.unreached(datetime.now(UTC))
            if one.server in servers
        ]

    async def release_account(self, server: str, username: str) -> bool:
        """Lift every hold of an account."""
        account, now = Account(server, username), datetime.now(UTC)
        is_lifted = await lift(self._queue, self._accounts, account, now, with_pairs=True)
        self._tell_change()
        return is_lifted

    def waits_for(self, message: StoredMessage) -> str:
        """Return what keeps a message that is due from leaving, or the reason that was written down with it."""
        now = datetime.now(UTC)
        found = self._way_of(message) if _is_due(message, now) else None
        if found is None:
            return message.reason
        server, account = found
        slow = self._accounts.slowness_of(account, now)
        if slow is not None:
            seconds = ceil((slow.until - now).total_seconds())
            return f"waits for {server.scope(account)}: its server asks for a slower pace, next in {seconds} s"
        return (self._limiter.reason(server, account) if self._limiter else "") or message.reason

    def next_attempt(self, message: StoredMessage) -> datetime | None:
        """Return when a message is tried next: when it is due, or the first of its account that is due may leave."""
        now = datetime.now(UTC)
        found = self._way_of(message) if _is_due(message, now) else None
        if found is None:
            return message.next_attempt
        slow = self._accounts.slowness_of(found[1], now)
        paced = self._limiter.next(*found) if self._limiter else None
        return max((moment for moment in (slow.until if slow else None, paced) if moment), default=message.next_attempt)

    def _tell_change(self) -> None:
        if self._on_change is not None:
            self._on_change()

    def _way_of(self, message: StoredMessage) -> tuple[Server, Account] | None:
        """Return by which server and account a message would leave now; None where its route is gone."""
        routing = self._routing()
        if message.profile is None:
            route = routing.default_route()
            return (route.server, route.account) if route else None
        profile = routing.directory.profile(message.profile)
        if profile is None:
            return None
        server, account = routing.directory.server_of(profile), routing.directory.account_of(profile)
        return (server, account) if server and account else None

    async def _retry(self, id_: str, now: datetime) -> bool:
        with suppress(Leased):  # a relay ended in the middle of an attempt: the next one looks into that first
            return await self._queue.edit(id_, administrative_actions.retry(now))
        return False

    def _state(self, account: Account, hold: HoldRow | None, profiles: list[str], now: datetime) -> AccountState:
        slow = self._accounts.slowness_of(account, now)
        return AccountState(
            account=str(account),
            server=account.server,
            username=account.username,
            address=hold.address if hold else "",
            profiles=profiles,
            state="held" if hold else "slowed" if slow else "ok",
            held_since=rfc3339(hold.since) if hold else None,
            reason=hold.reason if hold else slow.reason if slow else "",
            next_probe=rfc3339(_next_probe(hold) if hold else slow.until if slow else None),
        )


def _next_probe(hold: HoldRow) -> datetime | None:
    """Return when one message tries out if a hold is over; None where only a person can know."""
    return hold.until or hold.next_probe


def _is_due(message: StoredMessage, now: datetime) -> bool:
    """Whether a message would be tried now, if its account may send."""
    return message.state == State.QUEUED and message.next_attempt is not None and message.next_attempt <= now


def _users(directory: Directory) -> dict[Account, list[str]]:
    """Return every account with the names of the profiles that send through it."""
    users: dict[Account, list[str]] = defaultdict(list)
    for server in directory.servers.values():
        users[Account(server.name, server.username)] = []
    for profile in directory.profiles():
        account = directory.account_of(profile)
        if account is not None:
            users[account].append(profile.name)
    return dict(users)
