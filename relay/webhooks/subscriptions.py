"""Which webhooks are told of an event, and in what words: the payload of Standard Webhooks, as docs/webhooks.md has it.

An event is made in the transaction of what it tells, so a fault here must never keep that from being written.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from relay.config.notification import Webhook
from relay.store.db.prepared import words
from relay.store.queue.messages import Attempt, NewEvent, ReturnRow, StoredMessage, StoredRecipient
from relay.system.clock import utc_now
from relay.system.fault_barrier import tell_fault

# Their moment is that at which the attempt ended; what happens otherwise, happens when it is written.
_OF_ATTEMPTS = frozenset({"delivered", "failed", "deferred", "unknown"})


class Subscriptions:
    """What the webhooks of relay.toml want to hear. `clock` says when an event is written."""

    def __init__(self, webhooks: Sequence[Webhook], clock: Callable[[], datetime] = utc_now) -> None:
        self.webhooks = tuple(webhooks)
        self._clock = clock
        self._wanted = frozenset(event for webhook in webhooks for event in webhook.events)
        # Of each webhook the profiles whose messages it hears of; None is all.
        self._filters = [(one, None if "*" in one.profiles else frozenset(one.profiles)) for one in webhooks]

    def wants(self, event: str) -> bool:
        """Whether any webhook wants to hear of such events."""
        return event in self._wanted

    def events(
        self,
        event: str,
        message: StoredMessage,
        attempt: Attempt | None = None,
        returned: ReturnRow | None = None,
    ) -> Sequence[NewEvent]:
        """Return what is to be written where this happened to a message. Of our own reports nobody is told."""
        if event not in self._wanted or message.is_report:
            return ()
        try:
            urls = [
                webhook.url
                for webhook, profiles in self._filters
                if event in webhook.events and (profiles is None or message.profile in profiles)
            ]
            return self._made(urls, event, message, attempt, returned) if urls else ()
        except Exception:  # what is told beside the mail changes nothing about it (relay.system.fault_barrier)
            tell_fault("Subscriptions.events")
            return ()

    def _made(
        self,
        urls: Sequence[str],
        event: str,
        message: StoredMessage,
        attempt: Attempt | None,
        returned: ReturnRow | None,
    ) -> Sequence[NewEvent]:
        now = self._clock()
        ended = attempt.ended if attempt is not None and event in _OF_ATTEMPTS else None
        data = _facts(message, attempt)
        if returned is not None:
            about = next((one for one in message.recipients if one.number == returned.number), None)
            data["returned"] = {
                "address": str(about.recipient.address) if about else "",
                "status": returned.status,
                "reply": words(returned.words),
                "reporter": words(returned.reporter),
            }
        body = json.dumps(
            {"type": f"message.{event}", "timestamp": _moment(ended or now), "data": data}, separators=(",", ":")
        )
        # No two events of a message are written at one moment.
        id_ = f"{message.id}-{int(now.timestamp() * 1_000_000):x}"
        return [NewEvent(id_, url, message.id, now, body) for url in urls]


def _facts(message: StoredMessage, attempt: Attempt | None) -> dict[str, Any]:
    server = message.server or (attempt.server if attempt else "")
    username = message.username or (attempt.username if attempt else "")
    if attempt is not None and attempt.server:
        server, username = attempt.server, attempt.username
    return {
        "id": message.id,
        "message_id": words(message.message_id),
        "subject": words(message.subject),
        "profile": message.profile,
        "client": words(message.client.name),
        "sender": str(message.envelope.sender) if message.envelope.sender else "",
        "recipients": [_recipient(one) for one in message.recipients],
        "size": message.size,
        "created": _moment(message.created),
        "state": message.state,
        "server": server,
        "account": f"{server}/{username}" if server else "",
        "attempts": max(message.attempts, attempt.number if attempt else 0),
        "next_attempt": _moment(message.next_attempt) if message.next_attempt else None,
        "reason": words(message.reason),
        "reply": words(message.reply or (attempt.reply if attempt else "")),
    }


def _recipient(one: StoredRecipient) -> dict[str, str]:
    return {"address": str(one.recipient.address), "state": one.state, "reply": words(one.reply)}


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z"
