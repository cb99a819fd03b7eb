"""What is handed over in the background straight from the door, and how much of that there may be.

It is on disk already; in memory it saves being read again. So there is only as much of it as an account sends within
moments, and all together as much as costs little memory.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from relay.directory.model import Account
from relay.mail.content import Content

_FOR_EACH_CONNECTION = 5
_MOST_OCTETS = 32 * 1024 * 1024


@dataclass(slots=True)
class Sending:
    """The messages that are being handed over so."""

    _messages: Counter[Account] = field(default_factory=Counter)
    _octets: int = 0

    def has_room(self, account: Account, connections: int, content: Content) -> bool:
        """Whether another one may begin, for an account with so many connections."""
        is_much = self._octets + content.size > _MOST_OCTETS
        return not is_much and self._messages[account] < connections * _FOR_EACH_CONNECTION

    def begin(self, account: Account, content: Content) -> Callable[[object], None]:
        """Count one that begins; what is returned is to be called when it has ended, with anything."""
        self._messages[account] += 1
        self._octets += content.size

        def end(_: object) -> None:
            self._octets -= content.size
            self._messages[account] -= 1
            if not self._messages[account]:
                del self._messages[account]

        return end
