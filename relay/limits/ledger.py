"""The port to the ledger: where is kept what accounts have used up of their limits, so that no restart forgets it.

A row of it is a stretch of time, and how many messages or recipients an account has used in it. The store keeps them
(`relay.store.cluster.account_limits`). One process that is alone counts in its memory and has on disk what it uses
before it uses it (`relay.limits.local_ledger`); several count in the store (`relay.limits.shared_ledger`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from relay.directory.model import Account, Server
from relay.limits import constants
from relay.limits.rate import RateLimit
from relay.limits.rows import Row, T, TakeRule


class LedgerError(Exception):
    """The ledger can be neither read nor written. The message is a sentence with what to do."""


class Kind(StrEnum):
    """What is counted. Messages are kept by the moment, recipients by the piece of a day."""

    MESSAGE = "message"
    RECIPIENT = "recipient"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """So many messages or recipients (`kind`) in the stretch that begins at `since`. To be added, or given back."""

    server: str
    username: str
    kind: str
    since: datetime
    count: int


class Purpose(NamedTuple):
    """What is used up by whom, and since when it counts. Where accounts share limits, all of the server count."""

    server: str
    username: str
    kind: str
    after: datetime
    is_shared: bool

    @classmethod
    def of(cls, server: Server, account: Account, kind: Kind, after: float) -> "Purpose":
        """Return that of an account, of what counts `after` a moment (seconds since 1970)."""
        return cls(account.server, account.username, str(kind), moment_of(after), server.shared_limits)


class Store(Protocol):
    """Where the ledger is (`relay.store.queue.queue`). All raise LedgerError."""

    async def take(self, purpose: Purpose, rule: TakeRule[T]) -> T:
        """Take what a rule makes of all that is used up for a purpose, and count it."""

    async def spent_for(self, purpose: Purpose) -> list[Row]:
        """Return what is used up for a purpose."""

    async def spend(self, spent: Sequence[Spent], forget: Mapping[str, datetime]) -> None:
        """Add to what is kept, and drop what began before the moment of its kind."""


@dataclass(slots=True, eq=False)
class Message:
    """A message that may begin and has not. It counts from `since`, in `limit` too where that is another's to keep."""

    account: Account
    since: datetime
    limit: RateLimit | None = None


class Rate(Protocol):
    """How many messages those who share a limit may begin."""

    @property
    def interval(self) -> float:
        """The even distance of two messages, in seconds."""

    def seconds(self, *, is_asked: bool = False) -> float:
        """Return how long until one more may be let go, as far as is known here; `is_asked`: people want to know."""

    def take_known(self, wanted: int) -> list[Message] | None:
        """Return who may be let go now, at most as many as wanted; None where only the store can tell."""

    async def take(self, wanted: int) -> list[Message]:
        """Return that by what the store says. Raises LedgerError."""

    async def begin(self, message: Message, *, is_again: bool) -> None:
        """Count a message as beginning now; `is_again`: once more. Raises LedgerError: it must not leave."""

    def take_back(self, message: Message) -> None:
        """It never begins."""

    def look_again(self) -> None:
        """Go by nothing that the store has said before."""


class Ledger(Protocol):
    """One for a process. `spent`: what earlier runs have used up. `corrections` are written by `tidy`."""

    corrections: "Corrections"
    spent: Sequence[Spent]

    @property
    def store(self) -> Store:
        """Where it is."""

    @property
    def tidy_seconds(self) -> float:
        """How often it is to be tidied."""

    @property
    def is_away(self) -> bool:
        """Whether the store is away, and each process goes by what it has."""

    def rate(self, server: Server, account: Account) -> Rate:
        """Return the rate of an account with `messages_per_minute`; always the same for those who share it."""

    async def tidy(self) -> None:
        """Write what is to be counted otherwise. Raises LedgerError; what must not be lost waits for the next time."""

    async def settle(self) -> None:
        """Give back what has not begun; nothing is under way any more."""


class _Key(NamedTuple):
    account: Account
    kind: Kind
    since: datetime


class Corrections:
    """What the ledger is to count otherwise than it does, until it is written.

    SAFETY: a failed write may have been written nevertheless. What it was to give back is not given back then, and what
    it was to count is counted with the next: so the ledger counts too much, never too little.
    """

    def __init__(self, store: Store, wall: Callable[[], float]) -> None:
        self._store = store
        self._wall = wall
        self._new: Counter[_Key] = Counter()
        self._forget_at = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be written."""
        return not any(self._new.values())

    def add(self, account: Account, kind: Kind, since: datetime, count: int) -> None:
        """Count so many more in a stretch, or less."""
        self._new[_Key(account, kind, since)] += count

    def pending(self, server: Server, account: Account, kind: Kind) -> list[Row]:
        """Return what is not written yet of an account, or of all that share its limits."""
        return [
            (key.since, count)
            for key, count in self._new.items()
            if key.kind is kind and _is_of(server, account, key.account)
        ]

    async def write(self) -> None:
        """Write them, and drop what counts no more. Raises LedgerError."""
        new, self._new = self._new, Counter()
        now = self._wall()
        is_due = now >= self._forget_at
        spent = [_spent(key, count) for key, count in new.items() if count]
        if not (spent or is_due):
            return
        try:
            await self._store.spend(spent, counts_no_more(moment_of(now)) if is_due else {})
        except LedgerError:
            gone = moment_of(now - 2 * constants.MINUTE)
            for key, count in new.items():
                if count > 0 and (key.kind is not Kind.MESSAGE or key.since > gone):
                    self._new[key] += count
            raise
        if is_due:
            self._forget_at = now + constants.MINUTE


def rows_of(spent: Iterable[Spent], server: Server, account: Account, kind: Kind) -> list[Row]:
    """Return what counts for an account, or for all that share its limits."""
    return [
        (one.since, one.count)
        for one in spent
        if one.kind == kind and _is_of(server, account, Account(one.server, one.username))
    ]


def _is_of(server: Server, account: Account, other: Account) -> bool:
    return other == account or (server.shared_limits and other.server == server.name)


def counts_no_more(now: datetime) -> dict[str, datetime]:
    """Return, by kind, what counts no more: twice as long as it does, so that nothing hangs on a second."""
    return {
        str(Kind.MESSAGE): now - timedelta(seconds=2 * constants.MINUTE),
        str(Kind.RECIPIENT): now - timedelta(seconds=constants.DAY + 2 * constants.PIECE),
    }


def moment_of(seconds: float) -> datetime:
    """Return a moment by its seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def _spent(key: _Key, count: int) -> Spent:
    account, kind, since = key
    return Spent(server=account.server, username=account.username, kind=str(kind), since=since, count=count)
