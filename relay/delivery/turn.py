"""A turn: the right to hand one message over now, within what its account may send."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Protocol

from relay.directory.model import Account, Server


def _nothing() -> None:
    pass


async def _free() -> None:
    pass


async def _all(wanted: int) -> int:
    return wanted


def _keep(_: int) -> None:
    pass


@dataclass(slots=True)
class Turn:
    """One hand-over. What it uses up is told to whoever gave it; the turn of an account without limits tells nobody.

    `charge_up_to` and `refund` count recipients of the day's budget, `on_begin` and `on_skip` the minute's message.
    What they count is on disk when they return; where the store fails they raise StoreError, and nothing may leave.
    """

    charge_up_to: Callable[[int], Awaitable[int]] = field(default=_all)
    refund: Callable[[int], None] = field(default=_keep)
    on_begin: Callable[[], Awaitable[None]] = field(default=_free)
    on_skip: Callable[[], None] = field(default=_nothing)
    recipients: int = 0
    has_begun: bool = False
    _has_ended: bool = False

    async def charge(self, wanted: int) -> int:
        """Take so many recipients off the budget, or as many as there are; return how many. To be called once.

        Raises StoreError.
        """
        self.recipients = await self.charge_up_to(wanted)
        return self.recipients

    async def begin(self) -> None:
        """MAIL leaves when this returns. A second time: its connection was dead, and MAIL is said again on another.

        Raises StoreError: it must not leave.
        """
        await self.on_begin()
        self.has_begun = True

    def end(self, used: int = 0) -> None:
        """It is over, and the server has the message for `used` recipients, or may have it: the rest is free again."""
        if self._has_ended:
            return
        self._has_ended = True
        if not self.has_begun:
            self.on_skip()
        if self.recipients > used:
            self.refund(self.recipients - used)


class Turns(Protocol):
    """Who gives turns: `relay.delivery.pacing`, and `relay.delivery.shared_pacing` where several processes send."""

    async def turn(
        self, server: Server, account: Account, profile: str | None, *, recipients: int = 1, within: float = inf
    ) -> Turn | None:
        """Wait for the turn of one message; None where the budget lacks that many recipients, or it takes longer."""

    def room(self, server: Server, account: Account) -> float:
        """Return how many recipients may still be sent to today; infinity where nobody counts."""

    def next(self, server: Server, account: Account) -> datetime | None:
        """Return when the next message may leave; None where one may now."""

    def reason(self, server: Server, account: Account) -> str:
        """Return in a sentence what the next message waits for; "" where it does not."""

    def disband(self) -> None:
        """Give nobody who waits a turn: limits have changed, let them ask again."""

    def close(self) -> None:
        """Let nobody wait any more."""
