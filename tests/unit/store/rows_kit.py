"""The rows of messages with the values of Python, for tables that SQLAlchemy writes: those of older schemas."""

from dataclasses import fields
from typing import Any

from relay.directory.client import Client
from relay.mail.trace import Arrival
from relay.store.queue.messages import Attempt, StoredMessage, StoredRecipient
from relay.store.queue.rows import _SAME, _changes_text, profile_word

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


# Columns of `attempts` that hold a field of Attempt as it is.
_ATTEMPT = tuple(field.name for field in fields(Attempt) if field.name != "changes")


def attempt_values(message: str, attempt: Attempt) -> Values:
    """Return an attempt's row."""
    same = {name: getattr(attempt, name) for name in _ATTEMPT}
    return {"message": message, **same, "changes": _changes_text(attempt.changes)}


def _client_facts(client: Client) -> Values:
    return {
        "name": client.name,
        "peer": client.peer,
        "may_send_as": list(client.may_send_as),
        "is_trusted": client.is_trusted,
        "login": client.login,
    }


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
