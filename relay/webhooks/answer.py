"""What the answer of a webhook means. Pure."""

from dataclasses import dataclass
from http import HTTPStatus

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
