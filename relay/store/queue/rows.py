"""Between the values of `relay.store.queue.messages` and the rows of the tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Row

from relay.directory.client import Client
from relay.mail.address import Address
from relay.mail.dsn_parameters import Notify, OriginalRecipient, Return
from relay.mail.envelope import Body, Envelope, Recipient
from relay.mail.header import Change, KeptChanges
from relay.mail.trace import Arrival
from relay.store.db.prepared import Row as Plain
from relay.store.db.prepared import moment, words
from relay.store.db.queue_tables import attempts, messages, recipients
from relay.store.queue.messages import Attempt, HoldRow, StoredMessage, StoredRecipient

Values = dict[str, Any]
# A text in JSON, in ASCII. The few facts that are JSON are put together by hand: an encoder takes five times as long.
_quoted = json.encoder.encode_basestring_ascii
_text = json.encoder.encode_basestring  # the same, with the letters as they are


MESSAGE = tuple(messages.columns.keys())
RECIPIENT = tuple(recipients.columns.keys())
ATTEMPT = tuple(attempts.columns.keys())


def message_row(
    message: StoredMessage,
    attempt: Attempt | None = None,
    finished: int | None = None,
    lease: tuple[str | None, int | None] = (None, None),
    digest: bytes | None = None,
) -> Plain:
    """Return a message's row, in the order of MESSAGE, as the driver takes it. It shows its `attempt`.

    `finished` and the end of the lease are microseconds since 1970.
    """
    envelope = message.envelope
    sender = envelope.sender
    number, server, username = message.attempts, message.server, message.username
    if attempt is not None:
        number = max(number, attempt.number)
        server, username = server or attempt.server, username or attempt.username
    return (
        message.id,
        moment(message.created),
        message.profile or "",
        _client_text(message.client),
        _arrival_text(message.arrival),
        str(sender) if sender else None,
        sender.key if sender else None,
        envelope.body.value,
        envelope.smtputf8,
        envelope.require_tls,
        envelope.size,
        envelope.ret.value if envelope.ret else None,
        envelope.envid,
        message.size,
        words(message.message_id),
        words(message.subject),
        message.is_report,
        message.state,
        moment(message.next_attempt),
        number,
        message.unknowns,
        moment(message.held_since),
        message.held_seconds,
        message.held_by or None,
        message.warned,
        words(message.reason),
        server,
        username,
        moment(message.delivered),
        words(message.reply),
        finished,
        message.fence,
        *lease,
        digest,
        message.clock_ahead,
    )


# Columns of `messages` that hold a field of StoredMessage as it is.
_SAME = (
    "size",
    "message_id",
    "subject",
    "is_report",
    "state",
    "next_attempt",
    "attempts",
    "unknowns",
    "held_since",
    "held_seconds",
    "warned",
    "reason",
    "server",
    "username",
    "delivered",
    "reply",
    "fence",
    "clock_ahead",
)


def message_of(row: Row[Any], recipients: Sequence[StoredRecipient]) -> StoredMessage:
    """Return the message of a row of `messages` and its recipients, in their order."""
    facts = row._mapping  # the public name is reserved for columns
    return StoredMessage(
        id=row.id,
        created=row.created,
        profile=row.profile or None,
        client=_client(row.client),
        arrival=_arrival(row.arrival),
        envelope=Envelope(
            sender=Address.parse(row.sender) if row.sender is not None else None,
            recipients=tuple(stored.recipient for stored in recipients),
            body=Body(row.body),
            smtputf8=row.smtputf8,
            size=row.declared_size,
            ret=Return(row.ret) if row.ret is not None else None,
            envid=row.envid,
            require_tls=row.require_tls,
        ),
        recipients=tuple(recipients),
        held_by=row.held_by or "",
        digest=row.digest,
        **{name: facts[name] for name in _SAME},
    )


def profile_word(profile: str | None) -> str:
    """Return how `messages.profile` says a profile: no name is empty, so "" is nobody's."""
    return profile or ""


def recipient_row(message: str, stored: StoredRecipient) -> Plain:
    """Return a recipient's row, in the order of RECIPIENT."""
    recipient = stored.recipient
    original = recipient.original
    return (
        message,
        stored.number,
        str(recipient.address),
        recipient.address.key,
        recipient.notify.text if recipient.notify else None,
        original.address_type if original else None,
        original.text if original else None,
        stored.state,
        words(stored.reply),
        stored.meaning,
        moment(stored.changed),
    )


def recipient_of(row: Row[Any]) -> StoredRecipient:
    """Return the recipient of a row of `recipients`."""
    original = None if row.original_type is None else OriginalRecipient(row.original_type, row.original)
    notify = None if row.notify is None else Notify(row.notify)
    return StoredRecipient(
        number=row.number,
        recipient=Recipient(Address.parse(row.address), notify, original),
        state=row.state,
        reply=row.reply,
        meaning=row.meaning,
        changed=row.changed,
    )


# Columns of `attempts` that hold a field of Attempt as it is.
_ATTEMPT = tuple(field.name for field in fields(Attempt) if field.name != "changes")


def attempt_row(message: str, attempt: Attempt) -> Plain:
    """Return an attempt's row, in the order of ATTEMPT."""
    changes = _changes_text(attempt.changes)
    return (
        message,
        attempt.number,
        moment(attempt.started),
        attempt.server,
        attempt.username,
        attempt.phase,
        attempt.final_dot,
        moment(attempt.ended),
        words(attempt.reply),
        attempt.meaning,
        attempt.tls,
        None if changes is None else words(changes),
    )


def attempt_of(row: Row[Any]) -> Attempt:
    """Return the attempt of a row of `attempts`."""
    return Attempt(**{name: row._mapping[name] for name in _ATTEMPT}, changes=_changes(row.changes))


_HOLD = tuple(field.name for field in fields(HoldRow))


def hold_values(hold: HoldRow) -> Values:
    """Return a hold's row."""
    return {name: getattr(hold, name) for name in _HOLD}


def hold_of(row: Row[Any]) -> HoldRow:
    """Return the hold of a row of `holds`."""
    return HoldRow(**{name: row._mapping[name] for name in _HOLD})


@lru_cache(maxsize=1024)  # many messages come from one client
def _client_text(client: Client) -> str:
    return (
        f'{{"name": {_quoted(client.name)}, "peer": {_quoted(client.peer)}, '
        f'"may_send_as": [{", ".join(map(_quoted, client.may_send_as))}], '
        f'"is_trusted": {"true" if client.is_trusted else "false"}, "login": {_quoted(client.login)}}}'
    )


def _client(facts: Mapping[str, Any]) -> Client:
    return Client(
        facts["name"], facts["peer"], tuple(facts["may_send_as"]), facts["is_trusted"], login=facts.get("login", "")
    )


def _arrival_text(arrival: Arrival) -> str:
    return (
        f'{{"helo": {_quoted(arrival.helo)}, "peer": {_quoted(arrival.peer)}, "hostname": {_quoted(arrival.hostname)}, '
        f'"protocol": {_quoted(arrival.protocol)}, "id": {_quoted(arrival.id)}, '
        f'"received_at": "{arrival.received_at.isoformat()}", "login": {_quoted(arrival.login)}}}'
    )


def _arrival(facts: Mapping[str, Any]) -> Arrival:
    received_at = datetime.fromisoformat(facts["received_at"])
    return Arrival(**{**facts, "received_at": received_at})


def _changes_text(kept: KeptChanges | None) -> str | None:
    if kept is None:
        return None
    told = ",".join([f"[{_text(field)},{_text(before)},{_text(after)}]" for field, before, after in kept.changes])
    return f'{{"changes":[{told}],"left_out":{kept.left_out}}}'


def _changes(text: str | None) -> KeptChanges | None:
    if text is None:
        return None
    facts = json.loads(text)
    return KeptChanges(tuple(Change(*one) for one in facts["changes"]), facts["left_out"])
