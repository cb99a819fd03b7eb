"""Messages as `queue` and `messages` tell of them (`relay.control.messages.results`)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import overload

from relay.control.context import ControlContext
from relay.control.json_values import fields_of
from relay.control.messages.results import (
    AttemptRecord,
    HeaderChangeRecord,
    HistoryItem,
    HistoryRecord,
    JourneyRecipient,
    JourneyRecord,
    QueueItem,
    QueueRecord,
    RecipientRecord,
    ReportRecord,
    ReturnedRecord,
)
from relay.delivery.outcome import State
from relay.mail.header import KeptChanges
from relay.store.queue.messages import Attempt, ReturnRow, StoredMessage
from relay.store.queue.search import SearchCriteria


def queue_record(parts: ControlContext, message: StoredMessage) -> QueueRecord:
    """Return a message that waits."""
    return QueueRecord(
        id=message.id,
        state=message.state,
        sender=_sender(message),
        profile=message.profile,
        server=_server(parts, message),
        recipients=_recipients(message),
        size=message.size,
        created=rfc3339(message.created),
        next_attempt=rfc3339(parts.queue_actions.next_attempt(message)),
        reason=_reason(parts, message),
    )


def queue_item(parts: ControlContext, message: StoredMessage) -> QueueItem:
    """Return a message that waits as a page of the queue lists it."""
    return QueueItem(**fields_of(queue_record(parts, message)), subject=message.subject)


def history_record(parts: ControlContext, message: StoredMessage) -> HistoryRecord:
    """Return a message that waits, or one of which all is over."""
    return HistoryRecord(
        id=message.id,
        message_id=message.message_id,
        sender=_sender(message),
        recipients=_recipients(message),
        profile=message.profile,
        server=_server(parts, message),
        state=message.state,
        created=rfc3339(message.created),
        delivered=rfc3339(message.delivered),
        reply=message.reply,
    )


def history_item(parts: ControlContext, message: StoredMessage) -> HistoryItem:
    """Return a message as a page of the history lists it."""
    return HistoryItem(**fields_of(history_record(parts, message)), subject=message.subject)


async def journey_record(parts: ControlContext, message: StoredMessage) -> JourneyRecord:
    """Return all that is known of a message."""
    attempts = await parts.queue.attempts(message.id)
    returns = {row.number: row for row in await parts.queue.returns(message.id)}
    known = fields_of(history_record(parts, message)) | {
        "recipients": [
            JourneyRecipient(**fields_of(record), returned=_returned(returns.get(one.number)))
            for record, one in zip(_recipients(message), message.recipients, strict=True)
        ]
    }
    return JourneyRecord(
        **known,
        size=message.size,
        next_attempt=rfc3339(parts.queue_actions.next_attempt(message)),
        reason=_reason(parts, message),
        subject=message.subject,
        client=message.client.name,
        peer=message.arrival.peer,
        helo=message.arrival.helo,
        protocol=message.arrival.protocol,
        account=_account(message.server, message.username),
        held_since=rfc3339(message.held_since),
        held_by=message.held_by,
        is_report=message.is_report,
        attempts=[_attempt(attempt) for attempt in attempts],
        reports=[_report(report) for report in await _reports_about(parts, message)],
    )


def kept_changes(kept: KeptChanges | None) -> tuple[Sequence[HeaderChangeRecord] | None, int]:
    """Return what was changed in a header, and how many changes more are not kept; None: nobody knows."""
    if kept is None:
        return None, 0
    changes = [HeaderChangeRecord(field=one.field, before=one.before, after=one.after) for one in kept.changes]
    return changes, kept.left_out


def is_open(message: StoredMessage) -> bool:
    """Whether anything may still follow for a message."""
    return not State(message.state).is_final


@overload
def rfc3339(moment: datetime) -> str: ...
@overload
def rfc3339(moment: None) -> None: ...
@overload
def rfc3339(moment: datetime | None) -> str | None: ...
def rfc3339(moment: datetime | None) -> str | None:
    """Return a time as JSON has it."""
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _sender(message: StoredMessage) -> str:
    """Return the envelope sender, "" for the null sender."""
    return str(message.envelope.sender or "")


def _recipients(message: StoredMessage) -> list[RecipientRecord]:
    return [
        RecipientRecord(address=str(one.recipient.address), state=one.state, reply=one.reply)
        for one in message.recipients
    ]


def _returned(row: ReturnRow | None) -> ReturnedRecord | None:
    """Return what a report said that came after the server had taken the message; None where none came."""
    if row is None:
        return None
    return ReturnedRecord(found=rfc3339(row.found), status=row.status, words=row.words, reporter=row.reporter)


async def _reports_about(parts: ControlContext, message: StoredMessage) -> list[StoredMessage]:
    """Return what we wrote to a message's sender about it: reports are messages of ours, and name it in their subject.

    A message without a sender is owed none. `find` looks for a second at most, which is enough where there are any.
    """
    if message.is_report or message.envelope.sender is None:
        return []
    wanted = SearchCriteria(sender="", since=message.created, subject=f"report about {message.id}:")
    found = await parts.queue.find(wanted, limit=10)
    return [one for one in found.messages if one.is_report]


def _report(message: StoredMessage) -> ReportRecord:
    return ReportRecord(
        id=message.id,
        kind=message.subject.rpartition(": ")[2],
        state=message.state,
        created=rfc3339(message.created),
    )


def _server(parts: ControlContext, message: StoredMessage) -> str | None:
    """Return where a message goes next by the directory in effect, or where it was last."""
    if is_open(message):
        directory = parts.directory.routing().directory
        if message.profile is None:
            return directory.default_server or message.server or None
        profile = directory.profile(message.profile)
        server = directory.server_of(profile) if profile else None
        return server.name if server else message.server or None
    return message.server or None


def _reason(parts: ControlContext, message: StoredMessage) -> str:
    return parts.queue_actions.waits_for(message) if is_open(message) else message.reason


def _attempt(attempt: Attempt) -> AttemptRecord:
    changes, left_out = kept_changes(attempt.changes)
    return AttemptRecord(
        number=attempt.number,
        started=rfc3339(attempt.started),
        ended=rfc3339(attempt.ended),
        account=_account(attempt.server, attempt.username),
        phase=attempt.phase,
        final_dot=attempt.final_dot,
        reply=attempt.reply,
        meaning=attempt.meaning,
        tls=attempt.tls,
        changes=changes,
        changes_left_out=left_out,
    )


def _account(server: str, username: str) -> str | None:
    return f"{server}/{username}" if server else None
