"""What is known of each account: who holds it and why, and how much slower it goes than it could; and of each server,
whether anybody reaches it.

Holds are kept in the store, so that a restart forgets none; here is what is in effect, and every question about it
is answered from memory. Slowness is only here: after a restart the account tries its luck anew. So is what is known of
servers: it is for those who look after them, and for `relay.delivery.backup_server`.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf
from types import EllipsisType

from relay import log
from relay.delivery.outcome import REST_SECONDS, Schedule, State, step
from relay.directory.model import Account, Meaning, Server
from relay.mail.address import Address
from relay.store.queue.messages import HoldRow
from relay.store.queue.queue import Queue
from relay.upstream.outcome import BEFORE_LOGIN, Failure, Outcome, Phase, named_window

# Pauses of an account whose server asks for a slower pace; one step back with every message that gets through.
_SLOW_STEPS = (30.0, 60.0, 120.0, 300.0, 600.0)
# A server that names a time itself is believed, within bounds: it must not shut an account out by a slip of the pen.
_LONGEST_NAMED_PAUSE = 3600.0
_SHORTEST_NAMED_REST, _LONGEST_NAMED_REST = 60.0, 86400.0
# A server that answers so many logins in a row with "not now" has refused them (providers.md): Microsoft says 451 4.7.0
# also where nothing passes by itself. Between those that count lie the pauses of [delivery] retry: what many messages
# are told at the same time is one answer.
_MOST_PUT_OFF = 5
# How long a server that nobody reaches is told of: longer than the longest usual pause between two attempts (4 h), by
# when nobody has anything for it any more.
_FORGOTTEN = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Slowness:
    """A pause until a moment, which step of the pauses it was, and how many connections there may be after it.

    `successes` counts the messages that got through since the number of connections changed.
    """

    until: datetime
    step: int
    reason: str
    connections: int
    successes: int = 0


class Accounts:
    """The accounts in trouble, and the servers that cannot be reached. Everything not in here is well.

    `on_pause` is told of a pause that begins or (None) ends here, by whose limits count: it is nowhere but in memory.
    """

    def __init__(
        self, schedule: Schedule, rows: Iterable[HoldRow] = (), monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        self.schedule = schedule
        self._holds = {_key_of(row): row for row in rows}
        self._stored = dict(self._holds)  # as the store had them when `follow` last saw it
        self._slow: dict[str, Slowness] = {}  # by whose limits count (`Server.scope`)
        self._probing: set[Account] = set()  # whose probe is due and has not begun
        # Logins in a row that were neither accepted nor refused, and when the next one counts.
        self._put_off: dict[Account, tuple[int, float]] = {}
        self._closed: set[Account] = set()  # whose last answer was a 421 without words that say more
        self.servers = ServerHealth()
        self.on_pause: Callable[[str, Slowness | None], None] = lambda _scope, _pause: None

    @property
    def is_clear(self) -> bool:
        """Whether nothing at all is known of any account or server: every answer below is the one of a well one."""
        return not (self._holds or self._slow or self._closed or self._put_off or self._probing or self.servers.known)

    def hold_of(self, account: Account, identity: Address | None = None) -> HoldRow | None:
        """Return the hold over an account, or over it with this address; None where nothing holds them."""
        if not self._holds:
            return None
        whole = self._holds.get((account.server, account.username, ""))
        if whole is not None or identity is None:
            return whole
        return self._holds.get((account.server, account.username, identity.key))

    def new_hold(self, account: Account, identity: Address, before: HoldRow | None) -> HoldRow | None:
        """Return the hold that came over an account after an attempt was let go under the one `before`."""
        hold = self.hold_of(account, identity)
        is_new = hold is not None and (before is None or hold.secret_version != before.secret_version)
        return hold if is_new else None

    def holds(self) -> tuple[HoldRow, ...]:
        """Return all holds."""
        return tuple(self._holds.values())

    def follow(self, rows: Iterable[HoldRow]) -> None:
        """Take over what another process changed in the store since the last time.

        What is only here yet, or here no more, is on its way to the store and stays as it is.
        """
        stored = {_key_of(row): row for row in rows}
        for key in self._stored.keys() - stored.keys():
            self._holds.pop(key, None)
            if not key[2]:
                self._forget_troubles(Account(*key[:2]))
        for key, row in stored.items():
            if self._stored.get(key) != row:
                self._holds[key] = row
        self._stored = stored

    @property
    def pauses(self) -> dict[str, Slowness]:
        """The pauses that are made, and those after which fewer connections are used, by whose limits count."""
        return dict(self._slow)

    def follow_pause(self, scope: str, pause: Slowness | None) -> None:
        """Take over a pause that another process met, or that it ended."""
        if pause is not None:
            self._slow[scope] = pause
        else:
            self._slow.pop(scope, None)

    def move(self, seconds: float) -> None:
        """The clock was set by so many seconds: what is due is due as it was."""
        step = timedelta(seconds=seconds)

        def moved(row: HoldRow) -> HoldRow:
            until, probe = row.until and row.until + step, row.next_probe and row.next_probe + step
            return replace(row, since=row.since + step, until=until, next_probe=probe)

        self._holds = {key: moved(row) for key, row in self._holds.items()}
        self._stored = {key: moved(row) for key, row in self._stored.items()}
        self._slow = {scope: replace(slow, until=slow.until + step) for scope, slow in self._slow.items()}
        self.servers.move(step)

    def slowness_of(self, account: Account, now: datetime) -> Slowness | None:
        """Return the pause an account makes now, alone or with all of its server."""
        if not self._slow:
            return None
        pauses = (self._slow.get(scope) for scope in (str(account), account.server))
        return max((slow for slow in pauses if slow and slow.until > now), key=lambda slow: slow.until, default=None)

    def is_quick(self, now: datetime) -> bool:
        """Whether no account makes a pause now."""
        return not any(slow.until > now for slow in list(self._slow.values()))

    def connections(self, server: Server, account: Account) -> int:
        """Return how many connections an account may have: fewer than its server allows, after that asked for less."""
        slow = self._slow.get(server.scope(account)) if self._slow else None
        return min(slow.connections, server.max_connections) if slow else server.max_connections

    def is_probe_due(self, hold: HoldRow, now: datetime) -> bool:
        """Whether it is time that one message tries out if the hold is over."""
        moment = hold.until or hold.next_probe
        return moment is not None and moment <= now

    def is_probing(self, account: Account) -> bool:
        """Whether one message may try out now if the hold is over."""
        return account in self._probing

    def take_probe(self, account: Account) -> bool:
        """Let one message try that out; False where none may, or another does."""
        is_free = account in self._probing
        self._probing.discard(account)
        return is_free

    def count(self, account: Account, outcome: Outcome) -> Outcome:
        """Return an outcome as it counts after those before it.

        A second 421 in a row on a new connection asks for a slower pace, and the last of many logins in a row that were
        put off is a refused one.
        """
        failure = outcome.failure
        if failure is not None and failure.is_closing:
            return self._count_closing(account, outcome, failure)
        if self._closed and (failure is None or failure.from_server):
            self._closed.discard(account)
        if failure is not None and failure.phase in BEFORE_LOGIN:
            return outcome  # nothing was said about the login
        if failure is None or failure.phase is not Phase.LOGIN or failure.meaning is not Meaning.TEMPORARY:
            self._put_off.pop(account, None)
            return outcome
        return self._count_put_off(account, outcome, failure)

    def _count_closing(self, account: Account, outcome: Outcome, failure: Failure) -> Outcome:
        if account in self._closed and outcome.on_new_connection:
            return replace(outcome, failure=replace(failure, meaning=Meaning.THROTTLE))
        self._closed.add(account)
        return outcome

    def _count_put_off(self, account: Account, outcome: Outcome, failure: Failure) -> Outcome:
        times, next_counts = self._put_off.get(account, (0, -inf))
        now = self._monotonic()
        if failure.from_server and failure.reply.is_temporary and now >= next_counts:
            times += 1
            self._put_off[account] = times, now + step(self.schedule.retry, times - 1)
        if times < _MOST_PUT_OFF:
            return outcome
        detail = "; ".join(filter(None, [failure.detail, f"{times} logins in a row did not work"]))
        return replace(outcome, failure=replace(failure, meaning=Meaning.LOGIN_REFUSED, detail=detail))

    def hold(
        self, account: Account, identity: Address, failure: Failure, secret_version: str, now: datetime
    ) -> HoldRow:
        """Hold what a failure says is to be held, and return the row to be stored. A second one prolongs the first."""
        key = _key(account, identity, failure.meaning)
        before = self._holds.get(key)
        probes = before.probes + 1 if before else 0
        rest = _rest_seconds(failure)
        row = HoldRow(
            server=account.server,
            username=account.username,
            address=key[2],
            meaning=str(failure.meaning),
            reason=failure.why,
            since=before.since if before else now,
            until=now + timedelta(seconds=rest) if rest else None,
            probes=probes,
            next_probe=None if rest or key[2] else self.schedule.next_probe(now, probes),
            secret_version=secret_version,
        )
        self._holds[key] = row
        self._probing.discard(account)
        self._put_off.pop(account, None)
        return row

    def is_known(
        self, account: Account, identity: Address, meaning: Meaning, secret_version: str, began: datetime
    ) -> bool:
        """Whether an attempt began before its account was held for the same: then it says nothing new."""
        hold = self._holds.get(_key(account, identity, meaning))
        if hold is None or began > hold.since:
            return False
        return hold.meaning == meaning and hold.secret_version == secret_version

    def begin_probe(self, hold: HoldRow, now: datetime) -> HoldRow:
        """Count a probe that starts: the next is due after its pause, whatever becomes of this one."""
        row = replace(hold, until=None, next_probe=self.schedule.next_probe(now, hold.probes))
        self._holds[hold.server, hold.username, hold.address] = row
        self._probing.add(Account(hold.server, hold.username))
        return row

    def drop_probes(self) -> None:
        """Let no message try anything out that did not begin yet: another process looks after that now."""
        self._probing.clear()

    def release(self, server: str, username: str, *, with_pairs: bool = True) -> tuple[HoldRow, ...]:
        """Forget the hold and pause of an account, `with_pairs` those of its addresses too; return what was lifted."""
        keys = [key for key in self._holds if key[:2] == (server, username) and (with_pairs or not key[2])]
        for scope in (str(Account(server, username)), server):
            if self._slow.pop(scope, None) is not None:
                self.on_pause(scope, None)
        self._forget_troubles(Account(server, username))
        return tuple(self._holds.pop(key) for key in keys)

    def _forget_troubles(self, account: Account) -> None:
        self._closed.discard(account)
        self._probing.discard(account)
        self._put_off.pop(account, None)

    def slow_down(self, server: Server, account: Account, failure: Failure, now: datetime) -> Slowness | None:
        """Make a pause, longer with every time the server asks, and go on with half the connections.

        None where a pause is on: what was under way when it began says nothing new.
        """
        scope = server.scope(account)
        before = self._slow.get(scope)
        if before is not None and before.until > now:
            return None
        number = min(before.step + 1, len(_SLOW_STEPS) - 1) if before else 0
        named = min(named_window(failure.reply.text) or 0, _LONGEST_NAMED_PAUSE)
        self._slow[scope] = Slowness(
            until=now + timedelta(seconds=max(step(_SLOW_STEPS, number), named)),
            step=number,
            reason=str(failure.reply),
            connections=max(1, self.connections(server, account) // 2),
        )
        self.on_pause(scope, self._slow[scope])
        return self._slow[scope]

    def speed_up(self, server: Server, account: Account) -> None:
        """A message got through: one step back, and one connection more when each of them had its success."""
        if not self._slow:
            return
        scope = server.scope(account)
        slow = self._slow.get(scope)
        if slow is None:
            return
        is_run = slow.successes + 1 >= slow.connections
        connections = slow.connections + 1 if is_run else slow.connections
        if slow.step == 0 and connections >= server.max_connections:
            del self._slow[scope]
            return
        successes = 0 if is_run else slow.successes + 1
        self._slow[scope] = replace(slow, step=max(0, slow.step - 1), connections=connections, successes=successes)


def _key_of(row: HoldRow) -> tuple[str, str, str]:
    return row.server, row.username, row.address


def _key(account: Account, identity: Address, meaning: Meaning) -> tuple[str, str, str]:
    """Return what is held: the whole account, or with this address alone."""
    return account.server, account.username, identity.key if meaning is Meaning.IDENTITY_REFUSED else ""


def _rest_seconds(failure: Failure) -> float | None:
    """Return how long an account is held by itself: the window that the server names, or our guess; None: no such."""
    guess = REST_SECONDS.get(failure.meaning)
    named = named_window(failure.reply.text) if guess is not None else None
    return guess if named is None else min(max(named, _SHORTEST_NAMED_REST), _LONGEST_NAMED_REST)


async def lift(
    queue: Queue, accounts: Accounts, account: Account, now: datetime, *, with_pairs: bool, why: str = ""
) -> bool:
    """Forget the hold and pause of an account and make its mail due; False where nothing held it.

    `with_pairs`: also what holds single addresses of it, which only a person can know to be over. `why` is for the log.
    """
    was_slow = accounts.slowness_of(account, now) is not None
    lifted = accounts.release(account.server, account.username, with_pairs=with_pairs)
    for row in lifted:
        await queue.drop_hold(row.server, row.username, row.address)
    freed = await free(queue, str(account), now)
    if lifted or freed:
        log.released(account=str(account), messages=freed, reason=why or None)
    return bool(lifted or freed or was_slow)


async def free(
    queue: Queue, held_by: str, now: datetime, *, profile: str | EllipsisType | None = ..., limit: int | None = None
) -> int:
    """Make the mail due that waits for an account, of one profile (None is nobody's) or all; return how many messages.

    A copy that a server may have twice waits for a person, whatever becomes of the account.
    """
    state, keeping = str(State.QUEUED), str(Meaning.UNKNOWN)
    return await queue.free(held_by, profile=profile, state=state, now=now, keeping=keeping, limit=limit)


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

    def note(self, server: str, failure: Failure | None, clock: Callable[[], datetime]) -> None:
        """Take note of how an attempt at a server ended. Costs nothing where all is well."""
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

    def move(self, step: timedelta) -> None:
        """The clock was set by that."""
        for name, one in self.known.items():
            self.known[name] = replace(one, since=one.since + step, last=one.last + step)

    def unreached(self, now: datetime) -> list[Unreached]:
        """Return those that were tried in vain of late, the one that is away longest first."""
        found = [one for one in list(self.known.values()) if now - one.last < _FORGOTTEN]
        return sorted(found, key=lambda one: one.since)
