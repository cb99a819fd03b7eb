"""A permit: the right to hand one message over now, within what its account may send."""

from collections.abc import Callable
from dataclasses import dataclass

from relay.directory.model import Server
from relay.limits.ledger import Message, Rate
from relay.limits.recipients import Promise


def is_limited(server: Server) -> bool:
    """Whether anybody ever waits at this server."""
    return bool(server.messages_per_minute or server.recipients_per_day)


@dataclass(slots=True, kw_only=True)
class Permit:
    """One hand-over. `recipients` is how many were charged.

    `promise` is what it has of the day, `message` of the minute, at `rate`; `pass_on` gives that to the next, `changed`
    is called when others may go. What begins is on disk before; where the store fails nothing may leave.
    """

    promise: Promise | None = None
    rate: Rate | None = None
    message: Message | None = None
    changed: Callable[[], None] | None = None
    pass_on: Callable[[Message], None] | None = None
    recipients: int = 0
    has_begun: bool = False
    _has_ended: bool = False

    async def charge(self, wanted: int) -> int:
        """Take so many recipients off the day, or as many as there are; return how many. To be called once.

        Raises LedgerError.
        """
        self.recipients = wanted if self.promise is None else await self.promise.charge(wanted)
        return self.recipients

    async def begin(self) -> None:
        """MAIL leaves when this returns. A second time: its connection was dead, and MAIL is said again on another.

        Raises LedgerError: it must not leave.
        """
        if self.promise is not None:
            await self.promise.begin()
        if self.rate is not None and self.message is not None:
            await self.rate.begin(self.message, is_again=self.has_begun)
        self.has_begun = True
        if self.changed is not None:
            self.changed()

    def end(self, used: int = 0) -> None:
        """It is over, and the server has the message for `used` recipients, or may have it: the rest is free again."""
        if self._has_ended:
            return
        self._has_ended = True
        if not self.has_begun and self.message is not None and self.pass_on is not None:
            self.pass_on(self.message)
        if self.promise is not None:
            self.promise.release()
            if self.recipients > used:
                self.promise.refund(self.recipients - used)
