"""Times as people read and write them: local, and counted from now."""

from datetime import UTC, datetime, timedelta

from relay.cli.session import WrongUsage
from relay.config.units import parse_duration

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


def moment(text: str) -> datetime:
    """Return the aware time that a JSON value (RFC 3339) names."""
    return datetime.fromisoformat(text)


def relative(when: datetime, now: datetime) -> str:
    """Return how far a time is from now: "in 12 m", "3 h ago", "now"."""
    seconds = (when - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {_span(seconds)}" if seconds > 0 else f"{_span(-seconds)} ago"


def absolute(when: datetime, now: datetime) -> str:
    """Return a time by this machine's clock, and how far it is: "2025-11-24 10:05:07 +0100 (3 h ago)"."""
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S %z} ({relative(when, now)})"


def parse_since(text: str, now: datetime) -> datetime:
    """Return the moment that `--since` means: "2h" is two hours ago, a time without a zone is this machine's.

    Raises WrongUsage.
    """
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongUsage(
            f"{text!r} is no time; write how long ago, such as 2h or 7d, or a time such as '2025-11-24 10:05'"
        ) from None


def _span(seconds: float) -> str:
    """Return a length of time in its largest unit that says enough: hours up to two days, because "1 d" is vague."""
    if seconds < _MINUTE:
        return f"{int(seconds)} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} m"
    if seconds < 2 * _DAY:
        return f"{int(seconds // _HOUR)} h"
    return f"{int(seconds // _DAY)} d"
