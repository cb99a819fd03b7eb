"""Outcomes of a message, and the verdict on each."""

from datetime import UTC, datetime, timedelta

from relay.delivery.outcome import Schedule, State, Unknown, Verdict, begun, copies_of, judge
from relay.directory.client import Client
from relay.directory.model import Meaning
from relay.mail.address import Address
from relay.mail.envelope import Envelope, Recipient
from relay.mail.reply import Reply
from relay.mail.trace import Arrival
from relay.store.queue.messages import StoredMessage, StoredRecipient
from relay.upstream.outcome import Failure, Outcome, Phase

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SCHEDULE = Schedule(
    retry=(60.0, 120.0),
    warn_after=4 * 3600.0,
    give_up_after=96 * 3600.0,
    probe=(900.0,),
    unknown=Unknown.RETRY,
    unknown_pause=1800.0,
)
TAKEN = Reply(250, "2.0.0", "Ok")


def message_for(count: int = 1, *, age: float = 0, held: float = 0, unknowns: int = 0) -> StoredMessage:
    created = NOW - timedelta(seconds=age)
    recipients = tuple(Recipient(Address.parse(f"r{number}@example.net")) for number in range(count))
    return StoredMessage(
        id="m1",
        created=created,
        profile="support",
        client=Client("127.0.0.1", "127.0.0.1", ("*",), is_trusted=True),
        arrival=Arrival("client", "127.0.0.1", "relay.test", "ESMTP", "m1", created),
        envelope=Envelope(Address.parse("support@acmejets.example"), recipients),
        recipients=tuple(
            StoredRecipient(number=number, recipient=one, state="queued") for number, one in enumerate(recipients)
        ),
        size=100,
        message_id="<1@here>",
        subject="hi",
        state="queued",
        next_attempt=created,
        held_seconds=held,
        unknowns=unknowns,
    )


def failure(meaning: Meaning, code: int = 451, *, phase: Phase = Phase.RCPT, rest: bool = False) -> Failure:
    reply = Reply(code, f"{code // 100}.0.0", "said the server")
    return Failure(phase=phase, reply=reply, meaning=meaning, from_server=True, in_next_transaction=rest)


def verdict_on(message: StoredMessage, outcome: Outcome, schedule: Schedule = SCHEDULE) -> Verdict:
    under_way = begun(message)
    assert under_way.state == State.SENDING
    return judge(under_way, copies_of(under_way, outcome), now=NOW, schedule=schedule, chance=0.5)
