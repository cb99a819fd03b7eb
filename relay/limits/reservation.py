"""What a process has taken ahead of a limit, so that not every message waits for the ledger.

It counts as used from the moment when it is taken, and in a stretch of time that is ahead of now; it can be used until
then. So whatever moment a kill comes at, the ledger counts at least what was used, and never an earlier time: what was
left of it is lost for its minute or day, and that is all.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from relay.directory.model import Account
from relay.limits import constants
from relay.limits.ledger import Kind, LedgerError, moment_of
from relay.limits.rows import Taken

_NOBODY = Account("", "")


@dataclass(slots=True, eq=False)
class Reservation:
    """What those of a scope have ahead of one kind. `promised` of it are somebody's already.

    `take` has so many counted in the ledger, the more where there is room and none where there are fewer than at least;
    `count` is told where the ledger is to count otherwise. `wall`: seconds since 1970.
    """

    kind: Kind
    wall: Callable[[], float]
    take: Callable[[Account, int, int], Awaitable[Taken]] = field(init=False)
    count: Callable[[Account, datetime, int], None] = field(init=False)
    left: int = 0
    promised: int = 0
    used_at: float = 0.0
    _account: Account = _NOBODY
    _since: float = 0.0
    _lacks: list[tuple[int, int]] = field(default_factory=list)
    _filling: asyncio.Task[tuple[int, list[tuple[int, int]]]] | None = None

    @property
    def free(self) -> int:
        """How many may be used now, and are nobody's."""
        return self.left - self.promised if self._is_usable() else min(0, -self.promised)

    async def fill(self, account: Account, wanted: int, at_least: int) -> int:
        """Have so many free, or all that there are, if those are enough; return how many are free.

        All who wait share a write, which comes to its end also where they are cancelled. Raises LedgerError.
        """
        while self.free < wanted:
            lack = (wanted - self.free, max(1, at_least - self.free))
            self._lacks.append(lack)
            try:
                taken, heard = await self._filled(account)
            finally:
                self._lacks.remove(lack)
            if lack in heard and not (taken and self._is_usable()):
                break
        return self.free

    def use(self, account: Account, number: int) -> datetime:
        """Use so many of what is left, and return the beginning of the stretch in which they count."""
        now = self.wall()
        self.left, self.used_at = self.left - number, now
        here = moment_of(stretch_of(self.kind, now))
        self._move(number, (self._account, moment_of(self._since)), (account, here))
        return here

    def put_back(self, account: Account, since: datetime, number: int) -> None:
        """Take in what was used in a stretch, and by nobody."""
        if self._is_usable():
            self.left, self.used_at = self.left + number, self.wall()
            self._move(number, (account, since), (self._account, moment_of(self._since)))
        else:
            self.count(account, since, -number)

    def give_back(self) -> None:
        """Give back to the ledger what is promised to nobody."""
        unused = self.left - self.promised
        if unused > 0:
            self.left -= unused
            self.count(self._account, moment_of(self._since), -unused)

    async def settle(self) -> None:
        """Wait for a write that is under way, and give back what is left."""
        if self._filling is not None:
            await asyncio.wait({self._filling})
        self.give_back()

    async def _filled(self, account: Account) -> tuple[int, list[tuple[int, int]]]:
        if self._filling is None:
            self._filling = asyncio.create_task(self._take(account))
            self._filling.add_done_callback(_read_failure)
        try:
            return await asyncio.shield(self._filling)
        except LedgerError as error:  # of several who share it each raises its own
            raise type(error)(*error.args) from error.__cause__

    async def _take(self, account: Account) -> tuple[int, list[tuple[int, int]]]:
        """Take what all lack who wait, and return how many that were, and who was heard."""
        try:
            heard = list(self._lacks)
            taken = await self.take(account, sum(lack for lack, _ in heard), min(least for _, least in heard))
            if not taken.count:
                return 0, heard
            since = taken.since.timestamp()
            if self.left and self._is_usable():
                self._move(self.left, (self._account, moment_of(self._since)), (account, taken.since))
            elif self.left:  # it is too old to be used
                self.count(self._account, moment_of(self._since), -self.left)
                self.left = 0
            self._account, self._since = account, since
            self.left, self.used_at = self.left + taken.count, self.wall()
            return taken.count, heard
        finally:
            self._filling = None  # at once: nobody may find one that is over

    def _is_usable(self) -> bool:
        """Whether it counts no earlier than what is used now, and not later than it may."""
        here = stretch_of(self.kind, self.wall())
        return here <= self._since <= here + ahead_of(self.kind)

    def _move(self, number: int, less: tuple[Account, datetime], more: tuple[Account, datetime]) -> None:
        if number and less != more:
            self.count(*less, -number)
            self.count(*more, number)


def stretch_of(kind: Kind, now: float) -> int:
    """Return when the stretch of time began that is now."""
    return int(now) // constants.PIECE * constants.PIECE if kind is Kind.RECIPIENT else int(now)


def ahead_of(kind: Kind) -> int:
    """Return how far ahead of now a reservation counts."""
    return constants.DAY_AHEAD_SECONDS if kind is Kind.RECIPIENT else constants.AHEAD_SECONDS


def _read_failure(task: "asyncio.Task[tuple[int, list[tuple[int, int]]]]") -> None:
    """Whoever waits for it is told; it is no fault where nobody does any more."""
    if not task.cancelled():
        task.exception()
