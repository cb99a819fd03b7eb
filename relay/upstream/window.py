"""When a server says itself how long it wants to be left alone: "try again in 10 minutes", "blocked for 24 hours".

SECURITY: the text comes from the server; the pattern takes linear time, and whoever asks sets the longest wait.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

# Only behind words that speak of waiting: "500 messages in 24 hours" names a limit and no end of it.
_WINDOW = re.compile(
    r"\b(?:try(?: again)?|retry|retry-after|wait|come back|blocked|locked|suspended|disabled)"
    r"(?: later| out)?(?: in| after| for| at least|:)?(?: about| another| at least)? "
    r"?([0-9]{1,6}) ?(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)\b",
    re.IGNORECASE,
)
_SECONDS: Mapping[str, int] = MappingProxyType({"s": 1, "m": 60, "h": 3600, "d": 86400})


def named_window(text: str) -> float | None:
    """Return the seconds that a server's words ask to wait, None where they name no time."""
    found = _WINDOW.search(text)
    if found is None or not int(found[1]):
        return None
    return float(int(found[1]) * _SECONDS[found[2][0].lower()])
