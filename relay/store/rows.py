"""Between the values of `relay.store.messages` and the rows of the tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from relay.directory.client import Client
from relay.mail.address import Address
from relay.mail.envelope import Body, Envelope, Recipient
from relay.mail.header import Change, KeptChanges
from relay.mail.notify import Notify, OriginalRecipient, Return
from relay.mail.trace import Arrival
from relay.store.messages import Attempt, HoldRow, StoredMessage, StoredRecipient

Values = dict[str, Any]


def message_values(message: StoredMessage) -> Values:
    """Return a message's row: neither leased nor finished."""
    envelope = message.envelope
    sender = envelope.sender
    return {
        "id": message.id,
        "created": message.created,
        "profile": profile_word(message.profile),
        "client": _client_facts(message.client),
        "arrival": _arrival_facts(message.arrival),
        "sender": str(sender) if sender else None,
        "sender_key": sender.key if sender else None,
        "body": envelope.body.value,
        "smtputf8": envelope.smtputf8,
        "require_tls": envelope.require_tls,
        "declared_size": envelope.size,
        "ret": envelope.ret.value if envelope.ret else None,
        "envid": envelope.envid,
        **{name: getattr(message, name) for name in _SAME},
        "held_by": message.held_by or None,
        "finished": None,
        "lease_owner": None,
        "lease_until": None,
        "digest": None,
    }


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


def recipient_values(message: str, stored: StoredRecipient) -> Values:
    """Return a recipient's row."""
    recipient = stored.recipient
    return {
        "message": message,
        "address": str(recipient.address),
        "address_key": recipient.address.key,
        "notify": recipient.notify.text if recipient.notify else None,
        "original_type": recipient.original.address_type if recipient.original else None,
        "original": recipient.original.text if recipient.original else None,
        "number": stored.number,
        "state": stored.state,
        "reply": stored.reply,
        "meaning": stored.meaning,
        "changed": stored.changed,
    }


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


def attempt_values(message: str, attempt: Attempt) -> Values:
    """Return an attempt's row."""
    same = {name: getattr(attempt, name) for name in _ATTEMPT}
    return {"message": message, **same, "changes": _changes_text(attempt.changes)}


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


def _client_facts(client: Client) -> Values:
    return {
        "name": client.name,
        "peer": client.peer,
        "may_send_as": list(client.may_send_as),
        "is_trusted": client.is_trusted,
        "login": client.login,
    }


def _client(facts: Mapping[str, Any]) -> Client:
    return Client(
        facts["name"], facts["peer"], tuple(facts["may_send_as"]), facts["is_trusted"], login=facts.get("login", "")
    )


def _arrival_facts(arrival: Arrival) -> Values:
    return {
        "helo": arrival.helo,
        "peer": arrival.peer,
        "hostname": arrival.hostname,
        "protocol": arrival.protocol,
        "id": arrival.id,
        "received_at": arrival.received_at.isoformat(),
        "login": arrival.login,
    }


def _arrival(facts: Mapping[str, Any]) -> Arrival:
    received_at = datetime.fromisoformat(facts["received_at"])
    return Arrival(**{**facts, "received_at": received_at})


def _changes_text(kept: KeptChanges | None) -> str | None:
    if kept is None:
        return None
    facts = {"changes": [[one.field, one.before, one.after] for one in kept.changes], "left_out": kept.left_out}
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


def _changes(text: str | None) -> KeptChanges | None:
    if text is None:
        return None
    facts = json.loads(text)
    return KeptChanges(tuple(Change(*one) for one in facts["changes"]), facts["left_out"])
