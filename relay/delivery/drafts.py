"""A submission as the store keeps it: the message as it came, and the facts of its coming."""

from dataclasses import dataclass
from datetime import datetime

from relay.delivery.lifecycle import State
from relay.delivery.parcel import Handed, Parcel
from relay.mail.header import Header
from relay.mail.reply import Reply
from relay.mail.words import decode_words
from relay.store.messages import Attempt, StoredMessage, StoredRecipient
from relay.upstream.outcome import Outcome, Phase

_LONGEST_SUBJECT = 200


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that is not stored yet. `parcel` says its profile, account and Message-ID.

    `clock_ahead`: by how many seconds the wall clock was ahead of the steady one when it came.
    """

    handed: Handed
    header: Header
    parcel: Parcel
    clock_ahead: float = 0.0

    def queued(self, now: datetime) -> StoredMessage:
        """Return the message with all copies QUEUED and due now."""
        return self._message(State.QUEUED, self._recipients(State.QUEUED), next_attempt=now)

    def under_way(self, now: datetime) -> StoredMessage:
        """Return the message with all copies SENDING: its first attempt begins now."""
        return self._message(State.SENDING, self._recipients(State.SENDING), next_attempt=now)

    def over(self, state: State, reply: Reply | None, outcome: Outcome, now: datetime) -> StoredMessage:
        """Return the message as it is over after its first attempt, for the history."""
        accepted = str(outcome.accepted or "")
        recipients = [
            StoredRecipient(
                number=number,
                recipient=recipient,
                state=str(state),
                reply=str(failure.reply) if (failure := outcome.failure_at(number)) else accepted,
            )
            for number, recipient in enumerate(self.handed.envelope.recipients)
        ]
        delivered = now if state is State.DELIVERED else None
        return self._message(state, tuple(recipients), attempts=1, delivered=delivered, reply=str(reply or ""))

    def first_attempt(self, now: datetime) -> Attempt:
        """Return the attempt that is made while the client waits, and begins now."""
        account = self.parcel.route.account
        return Attempt(
            number=1,
            started=now,
            server=account.server,
            username=account.username,
            phase=str(Phase.RESOLVE),
            changes=self.parcel.changes,
        )

    def _recipients(self, state: State) -> tuple[StoredRecipient, ...]:
        return tuple(
            StoredRecipient(number=number, recipient=recipient, state=str(state))
            for number, recipient in enumerate(self.handed.envelope.recipients)
        )

    def _message(
        self,
        state: State,
        recipients: tuple[StoredRecipient, ...],
        *,
        next_attempt: datetime | None = None,
        attempts: int = 0,
        delivered: datetime | None = None,
        reply: str = "",
    ) -> StoredMessage:
        handed, route = self.handed, self.parcel.route
        return StoredMessage(
            id=handed.arrival.id,
            created=handed.arrival.received_at,
            profile=route.profile.name if route.profile else None,
            client=handed.client,
            arrival=handed.arrival,
            envelope=handed.envelope,
            recipients=recipients,
            size=handed.content.size,
            message_id=self.parcel.message_id,
            subject=_subject(self.header),
            state=str(state),
            next_attempt=next_attempt,
            attempts=attempts,
            server=route.account.server,
            username=route.account.username,
            delivered=delivered,
            reply=reply,
            clock_ahead=self.clock_ahead,
        )


def _subject(header: Header) -> str:
    return next((decode_words(item.text) for item in header.get_all("subject")), "")[:_LONGEST_SUBJECT]
