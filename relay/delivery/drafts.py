"""A submission as the store keeps it: the message as it came, and the facts of its coming."""

from datetime import datetime

from relay.delivery.lifecycle import State
from relay.delivery.parcel import Handed, Parcel
from relay.mail.header import Header
from relay.mail.words import decode_words
from relay.store.messages import Attempt, StoredMessage, StoredRecipient
from relay.upstream.phase import Phase

_LONGEST_SUBJECT = 200


def draft(handed: Handed, header: Header, parcel: Parcel, now: datetime) -> StoredMessage:
    """Return a message with all copies QUEUED and due now. `parcel` says its profile and Message-ID."""
    route = parcel.route
    return StoredMessage(
        id=handed.arrival.id,
        created=handed.arrival.received_at,
        profile=route.profile.name if route.profile else None,
        client=handed.client,
        arrival=handed.arrival,
        envelope=handed.envelope,
        recipients=tuple(
            StoredRecipient(number=number, recipient=recipient, state=str(State.QUEUED))
            for number, recipient in enumerate(handed.envelope.recipients)
        ),
        size=handed.content.size,
        message_id=parcel.message_id,
        subject=_subject(header),
        state=str(State.QUEUED),
        next_attempt=now,
        server=route.account.server,
        username=route.account.username,
    )


def first_attempt(parcel: Parcel, now: datetime) -> Attempt:
    """Return the attempt that is made while the client waits, and begins now."""
    account = parcel.route.account
    return Attempt(
        number=1,
        started=now,
        server=account.server,
        username=account.username,
        phase=str(Phase.RESOLVE),
        changes=parcel.changes,
    )


def _subject(header: Header) -> str:
    return next((decode_words(item.text) for item in header.get_all("subject")), "")[:_LONGEST_SUBJECT]
