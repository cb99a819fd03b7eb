"""Bad logins: how many there were lately, from where, and how long the next answer waits (RFC 4954 section 9)."""

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from relay.directory.client import Client
from relay.directory.index import login_key

WINDOW = 300.0  # seconds: limits.login_failures counts within them
MOST_KEYS = 10_000
_FREE = 2  # failures that anybody makes by mistake; from the third on the answer waits
_MOST_DOUBLINGS = 3


class LoginFailures:
    """The bad logins of the last five minutes, by key. Pure but for the clock. The limit may be set anew.

    Where a relay has several processes, `tell` tells the others of each change (a key, and whether it failed), and
    `heard` takes in what they tell: who guesses passwords has as many attempts as with one.

    SECURITY: where there are more keys than are kept, those go that were quiet for the longest time.
    """

    def __init__(
        self,
        limit: int,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str, bool], None] = lambda _key, _is_failure: None,
    ) -> None:
        self.limit = limit
        self._clock = clock
        self._tell = tell
        # For each key the times of its newest failures, at most `limit`; keys in the order of the newest.
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def is_barred(self, key: str) -> bool:
        """Whether so many logins failed from there that no more are looked at now."""
        return self._count(key) >= self.limit

    def add(self, key: str) -> int:
        """Take note of one failure; return how many there are now."""
        self._tell(key, True)
        return self._add(key)

    def forget(self, key: str) -> None:
        """Take the failures from there as mistakes of somebody who knows the password."""
        if self._times.pop(key, None):
            self._tell(key, False)

    def heard(self, key: str, *, is_failure: bool) -> None:
        """Take note of what another process saw."""
        if is_failure:
            self._add(key)
        else:
            self._times.pop(key, None)

    def _add(self, key: str) -> int:
        self._times[key] = deque((*self._times.get(key, ()), self._clock()), maxlen=self.limit)
        self._times.move_to_end(key)
        while len(self._times) > MOST_KEYS:
            self._times.popitem(last=False)
        return self._count(key)

    def _count(self, key: str) -> int:
        times = self._times.get(key)
        if times is None:
            return 0
        while times and times[0] <= self._clock() - WINDOW:
            times.popleft()
        if not times:
            del self._times[key]
        return len(times)


def failure_key(client: Client, name: str) -> str:
    """Return what a failure counts for: the client's address, and the name too where its network is trusted.

    A trusted network may have one address for many people (a web server, a NAT), who must not shut each other out.
    SECURITY: who has one IPv6 address usually has its /64, so that counts as one; a name counts alike in all its
    spellings.
    """
    if not client.is_trusted:
        return _network(client)
    return f"{_network(client)} {login_key(name)}"


def pause_after(failures: int) -> int:
    """Return how long the answer to a failure waits, in first pauses: 0, 0, 1, 2, 4, 8, 8, …"""
    return 1 << min(failures - _FREE - 1, _MOST_DOUBLINGS) if failures > _FREE else 0


def _network(client: Client) -> str:
    try:
        address = ipaddress.ip_address(client.peer)
    except ValueError:
        return client.name  # a unix socket: the system user
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
