"""When what a webhook did not take is tried again, and when it is held. Pure; seconds."""

from datetime import timedelta

_MINUTE, _HOUR = 60.0, 3600.0
# One event that its webhook refuses while it takes others.
_EVENT = (5.0, 30.0, 2 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR)
# A webhook that takes nothing: one event is tried after each of these. What is back is found within five minutes.
_WEBHOOK = (1.0, 5.0, 15.0, _MINUTE, 2 * _MINUTE, 5 * _MINUTE)
_SPREAD = 0.1

HELD_AFTER = timedelta(days=3)
"""So long after it happened an event that its webhook does not take is tried no more."""

# A request takes a millisecond of the thread that hands over mail. While that has more messages a second than this,
# requests make a pause each, unless what they tell is older than a minute: a peak of mail has the thread for itself.
_BUSY = 50.0
_SECONDS_A_REQUEST = 0.016
_PEAK_SECONDS = 60.0


def event_pause(attempts: int, chance: float) -> float:
    """Return how long an event waits that was refused, after so many attempts before. `chance` in 0..1 spreads it."""
    return _spread(_EVENT[min(attempts, len(_EVENT) - 1)], chance)


def webhook_pause(failures: int, chance: float) -> float:
    """Return how long a webhook is left alone after so many failures in a row (at least one)."""
    return _spread(_WEBHOOK[min(failures, len(_WEBHOOK)) - 1], chance)


def peak_pause(rate: float, age: float, requests: int) -> float:
    """Return for how long to pause after some requests, about events of an age, at so many messages a second."""
    return requests * _SECONDS_A_REQUEST if rate >= _BUSY and age < _PEAK_SECONDS else 0.0


def _spread(seconds: float, chance: float) -> float:
    return seconds * (1 - _SPREAD + 2 * _SPREAD * chance)
