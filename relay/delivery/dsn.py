"""Writes what is owed to a sender: reports about copies that failed, are late, or were passed on (RFC 3461, 3464).

A report is a message of ours in the queue: from the null sender, pinned to the profile it is about, or to the default
server's own account where that profile's route is what failed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from relay.delivery.outcome import Copy, Schedule, State, Verdict, waited_seconds
from relay.directory.client import ANYONE, Client
from relay.directory.routing import Route
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Envelope, Recipient
from relay.mail.report import write_report
from relay.mail.report_facts import KINDS, Action, RecipientFacts, ReportFacts, ReportKind, may_report, who_wants
from relay.mail.trace import Arrival, message_id, new_id
from relay.store.queue.messages import NewMessage, StoredMessage, StoredRecipient
from relay.upstream.outcome import BEFORE_LOGIN, Phase

_OURSELVES = Client("relay", "local", (ANYONE,), is_trusted=True)
# Before MAIL nothing was about the message: it is the way itself that failed, and a report would fail on it, too.
_WAY = BEFORE_LOGIN | {Phase.LOGIN}


@dataclass(frozen=True, slots=True)
class Reporter:
    """Writes the reports of one relay. `hostname` is ours."""

    hostname: str
    schedule: Schedule

    def reports(
        self,
        verdict: Verdict,
        content: Content,
        *,
        route: Route | None,
        fallback: Route | None,
        server: str,
        has_dsn: bool,
        now: datetime,
        ahead: float = 0.0,
    ) -> tuple[NewMessage, ...]:
        """Return the reports that an attempt's verdict owes, ready to be stored with it.

        `route` is the message's own, `fallback` the default server's; `server` is the host that answered, "" where
        none did; `has_dsn` says that it makes its own reports about what it took. `ahead`: by how many seconds the wall
        clock is ahead of the steady one.
        """
        message = verdict.message
        if message.is_report or not may_report(message.envelope):
            return ()
        if not verdict.failed and not verdict.is_delayed and not _asked(message):  # as nearly always
            return ()
        facts: dict[ReportKind, tuple[RecipientFacts, ...]] = {
            ReportKind.FAILED: self._facts(message, verdict.failed, Action.FAILED, server, now, ahead),
            ReportKind.DELIVERED: ()
            if has_dsn
            else self._facts(message, verdict.delivered, Action.RELAYED, server, now, ahead),
            ReportKind.DELAYED: self._facts(message, verdict.waiting, Action.DELAYED, server, now, ahead)
            if verdict.is_delayed
            else (),
        }
        is_lost_way = any(copy.failure and copy.failure.phase in _WAY for copy in verdict.failed + verdict.waiting)
        way = fallback if fallback is not None and (is_lost_way or route is None) else route
        if way is None:
            return ()
        is_own = route is not None and way is route
        return tuple(
            self._report(
                kind, message, content, way.identity, recipients, message.profile if is_own else None, now, ahead
            )
            for kind, recipients in facts.items()
            if recipients
        )

    def _facts(
        self,
        message: StoredMessage,
        copies: tuple[Copy, ...],
        action: Action,
        server: str,
        now: datetime,
        ahead: float,
    ) -> tuple[RecipientFacts, ...]:
        kind = KINDS[action]
        by_number = {recipient.number: recipient.recipient for recipient in message.recipients}
        left = self.schedule.give_up_after - waited_seconds(message, now, ahead)
        return tuple(
            RecipientFacts(
                recipient=by_number[copy.number],
                action=action,
                reply=copy.reply,
                remote_mta=server if copy.failure is None or copy.failure.from_server else "",
                last_attempt=now,
                will_retry_until=now + timedelta(seconds=left) if action is Action.DELAYED else None,
            )
            for copy in copies
            if who_wants(kind, by_number[copy.number].notify)
        )

    def _report(
        self,
        kind: ReportKind,
        message: StoredMessage,
        content: Content,
        identity: Address,
        recipients: tuple[RecipientFacts, ...],
        profile: str | None,
        now: datetime,
        ahead: float,
    ) -> NewMessage:
        unique = new_id(now)
        report = write_report(
            ReportFacts(
                kind=kind,
                id=unique,
                date=now,
                reporting_mta=self.hostname,
                identity=identity,
                arrival=message.created,
                envelope=message.envelope,
                header=content.header,
                recipients=recipients,
                content=content,
            )
        )
        assert message.envelope.sender is not None
        to = Recipient(message.envelope.sender)
        return NewMessage(
            message=StoredMessage(
                id=unique,
                created=now,
                profile=profile,
                client=_OURSELVES,
                arrival=Arrival(self.hostname, "local", self.hostname, "ESMTP", unique, now),
                # What a report tells of a message is kept as safe as the message (RFC 8689 section 5).
                envelope=Envelope(None, (to,), require_tls=message.envelope.require_tls),
                recipients=(StoredRecipient(number=0, recipient=to, state=str(State.QUEUED)),),
                size=report.size,
                message_id=message_id(unique, identity),
                subject=f"report about {message.id}: {kind}",
                state=str(State.QUEUED),
                next_attempt=now,
                is_report=True,
                clock_ahead=ahead,
            ),
            content=report,
        )


def _asked(message: StoredMessage) -> bool:
    """Whether a client said of any recipient which reports it wants."""
    for one in message.recipients:  # noqa: SIM110  a generator takes three times as long
        if one.recipient.notify is not None:
            return True
    return False
