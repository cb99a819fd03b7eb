"""How Relay and a webhook speak: an event's signature, what an answer means, and when an event is tried again. Pure.

The signature is that of Standard Webhooks (standardwebhooks.com, specification 1.0.0). The receiver knows by it who
sent an event, and when: an old one that somebody sends again is found out by its time. Durations are seconds.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

_PREFIX = "whsec_"
_LEAST, _MOST = 24, 64  # octets of a key, as the specification has them
_WRONG = (
    "the secret of a webhook is whsec_ and the base64 of 24 to 64 random octets; "
    'make one with: echo "whsec_$(openssl rand -base64 32)"'
)


def key_of(secret: str) -> bytes:
    """Return the key in a secret. Raises ValueError, whose text has nothing of the secret."""
    try:
        key = base64.b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(_WRONG) from None
    if not _LEAST <= len(key) <= _MOST:
        raise ValueError(_WRONG)
    return key


def signed_headers(key: bytes, id_: str, seconds: int, body: bytes) -> dict[str, str]:
    """Return the three headers of an event that is sent at a moment (seconds since 1970)."""
    signed = f"{id_}.{seconds}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": id_, "webhook-timestamp": str(seconds), "webhook-signature": f"v1,{signature}"}


_MOST_WAIT = 3600
# These say something of the webhook, and nothing of the event: it is asked again later, with whatever is due then.
_OF_WEBHOOK = frozenset({401, 403, 404, 407, 408, 410, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a request. `reason` "" is success; `is_about_event`: the webhook takes others all the same.

    `wait`: for so many seconds it wants to be left alone.
    """

    reason: str = ""
    is_about_event: bool = False
    wait: float = 0.0


def answer_of(status: int, retry_after: bytes = b"") -> Answer:
    """Return what an HTTP status means."""
    if 200 <= status < 300:
        return Answer()
    try:
        words = f"it answers {status} {HTTPStatus(status).phrase}"
    except ValueError:
        words = f"it answers {status}"
    if 400 <= status < 500 and status not in _OF_WEBHOOK:
        return Answer(reason=words, is_about_event=True)
    seconds = int(retry_after) if retry_after.isdigit() and len(retry_after) < 9 else 0
    return Answer(reason=words, wait=float(min(seconds, _MOST_WAIT)))


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
