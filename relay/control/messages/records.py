"""Messages as the JSON objects that `queue` and `messages` give, with the keys of DESIGN section 4."""

from datetime import UTC, datetime
from typing import Any

from relay.control.context import Parts
from relay.delivery.lifecycle import State
from relay.mail.header import KeptChanges
from relay.store.queue.messages import Attempt, ReturnRow, StoredMessage
from relay.store.queue.search import SearchCriteria


def queue_record(parts: Parts, message: StoredMessage) -> dict[str, Any]:
    """Return a message that waits."""
    return {
        "id": message.id,
        "state": message.state,
        "sender": _sender(message),
        "profile": message.profile,
        "server": _server(parts, message),
        "recipients": _recipients(message),
        "size": message.size,
        "created": rfc3339(message.created),
        "next_attempt": rfc3339(parts.desk.next_attempt(message)),
        "reason": _reason(parts, message),
    }


def history_record(parts: Parts, message: StoredMessage) -> dict[str, Any]:
    """Return a message that waits, or one of which all is over."""
    return {
        "id": message.id,
        "message_id": message.message_id,
        "sender": _sender(message),
        "recipients": _recipients(message),
        "profile": message.profile,
        "server": _server(parts, message),
        "state": message.state,
        "created": rfc3339(message.created),
        "delivered": rfc3339(message.delivered),
        "reply": message.reply,
    }


async def journey_record(parts: Parts, message: StoredMessage) -> dict[str, Any]:
    """Return all that is known of a message: the keys of both lists, how it came, every attempt, and what came back."""
    attempts = await parts.queue.attempts(message.id)
    returns = {row.number: row for row in await parts.queue.returns(message.id)}
    return (
        history_record(parts, message)
        | queue_record(parts, message)
        | {
            "subject": message.subject,
            "client": message.client.name,
            "peer": message.arrival.peer,
            "helo": message.arrival.helo,
            "protocol": message.arrival.protocol,
            "account": _account(message.server, message.username),
            "held_since": rfc3339(message.held_since),
            "held_by": message.held_by,
            "is_report": message.is_report,
            "recipients": [
                {**record, "returned": _returned(returns.get(one.number))}
                for record, one in zip(_recipients(message), message.recipients, strict=True)
            ],
            "attempts": [_attempt(attempt) for attempt in attempts],
            "reports": [_report(report) for report in await _reports_about(parts, message)],
        }
    )


def changes_record(kept: KeptChanges | None) -> dict[str, Any]:
    """Return what was changed in a header, for an attempt or the next one; `changes` null: nobody knows."""
    if kept is None:
        return {"changes": None, "changes_left_out": 0}
    changes = [{"field": one.field, "before": one.before, "after": one.after} for one in kept.changes]
    return {"changes": changes, "changes_left_out": kept.left_out}


def is_open(message: StoredMessage) -> bool:
    """Whether anything may still follow for a message."""
    return not State(message.state).is_final


def rfc3339(moment: datetime | None) -> str | None:
    """Return a time as JSON has it."""
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _sender(message: StoredMessage) -> str:
    """Return the envelope sender, "" for the null sender."""
    return str(message.envelope.sender or "")


def _recipients(message: StoredMessage) -> list[dict[str, Any]]:
    return [
        {"address": str(one.recipient.address), "state": one.state, "reply": one.reply} for one in message.recipients
    ]


def _returned(row: ReturnRow | None) -> dict[str, Any] | None:
    """Return what a report said that came after the server had taken the message; None where none came."""
    if row is None:
        return None
    return {"found": rfc3339(row.found), "status": row.status, "words": row.words, "reporter": row.reporter}


async def _reports_about(parts: Parts, message: StoredMessage) -> list[StoredMessage]:
    """Return what we wrote to a message's sender about it: reports are messages of ours, and name it in their subject.

    A message without a sender is owed none. `find` looks for a second at most, which is enough where there are any.
    """
    if message.is_report or message.envelope.sender is None:
        return []
    wanted = SearchCriteria(sender="", since=message.created, subject=f"report about {message.id}:")
    found = await parts.queue.find(wanted, limit=10)
    return [one for one in found.messages if one.is_report]


def _report(message: StoredMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "kind": message.subject.rpartition(": ")[2],
        "state": message.state,
        "created": rfc3339(message.created),
    }


def _server(parts: Parts, message: StoredMessage) -> str | None:
    """Return where a message goes next by the directory in effect, or where it was last."""
    if is_open(message):
        directory = parts.directory.routing().directory
        if message.profile is None:
            return directory.default_server or message.server or None
        profile = directory.profile(message.profile)
        server = directory.server_of(profile) if profile else None
        return server.name if server else message.server or None
    return message.server or None


def _reason(parts: Parts, message: StoredMessage) -> str:
    return parts.desk.waits_for(message) if is_open(message) else message.reason


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "started": rfc3339(attempt.started),
        "ended": rfc3339(attempt.ended),
        "account": _account(attempt.server, attempt.username),
        "phase": attempt.phase,
        "final_dot": attempt.final_dot,
        "reply": attempt.reply,
        "meaning": attempt.meaning,
        "tls": attempt.tls,
        **changes_record(attempt.changes),
    }


def _account(server: str, username: str) -> str | None:
    return f"{server}/{username}" if server else None
