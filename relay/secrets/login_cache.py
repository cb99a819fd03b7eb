"""Logins that were right a moment ago, so that software which logs in for every message costs no hash each time."""

import hmac
import secrets
import time
from collections.abc import Callable

_MOST_ENTRIES = 1000
_KEPT_SECONDS = 600.0


class RememberedLogins:
    """Marks of names with their passwords. Each holds for 10 minutes and for one version of the login's record.

    SECURITY: a mark is an HMAC under a key that this process alone has and never writes. A password that was changed
    or removed has another version or none, so its mark fits no more.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._entries: dict[bytes, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def knows(self, name: str, password: str, version: str) -> bool:
        """Tell whether this password was right for this name and version."""
        mark = self._mark(name, password)
        kept, until = self._entries.get(mark, ("", 0.0))
        if kept == version and self._clock() < until:
            return True
        self._entries.pop(mark, None)
        return False

    def keep(self, name: str, password: str, version: str) -> None:
        """Remember that a password was right; where there are too many, the oldest goes."""
        mark = self._mark(name, password)
        self._entries.pop(mark, None)
        if len(self._entries) >= _MOST_ENTRIES:
            del self._entries[next(iter(self._entries))]
        self._entries[mark] = (version, self._clock() + _KEPT_SECONDS)

    def _mark(self, name: str, password: str) -> bytes:
        text = f"{len(name)}:{name}{password}"  # with the length, or "ab" + "c" would be "a" + "bc"
        return hmac.digest(self._key, text.encode(errors="surrogatepass"), "sha256")
