"""Mail with a null sender at a provider that takes none: once more from the identity, and no account is held for it."""

from dataclasses import dataclass, field, replace

import pytest

from relay.delivery.outcome import State
from relay.directory.model import Meaning, Mode
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.reply import Reply
from relay.store.queue.messages import StoredMessage
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.transaction import Progress, Transfer
from tests.unit.delivery.bench_kit import CLIENT, DeliveryKit, arrival_now, complete, envelope_of
from tests.unit.delivery.delivery_kit import SENDER, message_of, stored

TAKEN = Outcome(host="127.0.0.1", accepted=Reply(250, "2.0.0", "Ok"))


def refusal(code: int, enhanced: str, meaning: Meaning, phase: Phase) -> Outcome:
    failure = Failure(phase=phase, reply=Reply(code, enhanced, "said the server"), meaning=meaning, from_server=True)
    return Outcome(host="127.0.0.1", failure=failure)


@dataclass
class TwoMinds:
    """An upstream that answers a null sender otherwise than an address."""

    null: Outcome
    address: Outcome = TAKEN
    senders: list[Address | None] = field(default_factory=list)

    def begin_cut_through(self, transfer: Transfer) -> None:
        raise AssertionError

    async def deliver(self, transfer: Transfer, progress: Progress) -> Outcome:
        assert not progress.final_dot_sent
        self.senders.append(transfer.sender)
        await progress.note_mail()
        outcome = self.null if transfer.sender is None else self.address
        if outcome.failure is None or outcome.failure.phase is Phase.FINAL:
            progress.note_final_dot()
        return outcome


async def attempt_from_null(delivery: DeliveryKit, upstream: TwoMinds) -> StoredMessage:
    """Make one attempt for a message with a null sender, and return the message after it."""
    delivery.attempts.upstream = upstream
    id_ = await stored(delivery, replace(envelope_of(SENDER), sender=None))
    (message,) = await delivery.queue.claim(["support"], 1, delivery.clock(), str(State.SENDING))
    await delivery.attempts.try_stored(message)
    return await message_of(delivery, id_)


@pytest.mark.parametrize(
    "null",
    [
        refusal(550, "5.7.1", Meaning.REFUSED, Phase.MAIL),
        refusal(553, "5.7.1", Meaning.IDENTITY_REFUSED, Phase.MAIL),
        refusal(553, "5.7.1", Meaning.IDENTITY_REFUSED, Phase.RCPT),  # Postfix answers about the sender there
        refusal(554, "5.2.252", Meaning.IDENTITY_REFUSED, Phase.FINAL),  # and Microsoft 365 at the end
        refusal(530, "5.7.57", Meaning.LOGIN_REFUSED, Phase.MAIL),
    ],
)
async def test_a_refused_null_sender_goes_from_the_identity_and_holds_nothing(
    null: Outcome, delivery: DeliveryKit
) -> None:
    upstream = TwoMinds(null)
    message = await attempt_from_null(delivery, upstream)
    assert message.state == State.DELIVERED
    assert [str(sender or "") for sender in upstream.senders] == ["", SENDER]
    assert delivery.accounts.holds() == ()


@pytest.mark.parametrize("meaning", [Meaning.QUOTA, Meaning.LOCK_OUT, Meaning.ACCOUNT_FULL])
async def test_what_is_about_the_account_holds_it_and_is_not_asked_twice(
    meaning: Meaning, delivery: DeliveryKit
) -> None:
    upstream = TwoMinds(refusal(550, "5.4.5", meaning, Phase.MAIL))
    message = await attempt_from_null(delivery, upstream)
    assert len(upstream.senders) == 1
    (hold,) = delivery.accounts.holds()
    assert (message.state, message.held_by, hold.address) == (State.HELD, "acmejets/support@acmejets.example", "")


async def test_an_identity_that_is_refused_itself_is_held_so_that_somebody_sees_it(delivery: DeliveryKit) -> None:
    refused = refusal(553, "5.7.1", Meaning.IDENTITY_REFUSED, Phase.MAIL)
    message = await attempt_from_null(delivery, TwoMinds(refused, refused))
    (hold,) = delivery.accounts.holds()
    assert (message.state, message.held_by, hold.address) == (State.HELD, "acmejets/support@acmejets.example", SENDER)


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.DIRECT])
@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.FINAL])
async def test_it_goes_from_the_identity_while_its_client_waits_too(
    mode: Mode, phase: Phase, delivery: DeliveryKit
) -> None:
    upstream = TwoMinds(refusal(554, "5.2.252", Meaning.IDENTITY_REFUSED, phase))
    delivery.attempts.upstream, delivery.acceptance.mode = upstream, mode
    content = Content(b"From: support@acmejets.example\r\n", (b"back on monday\r\n",))
    submission = delivery.acceptance.open(CLIENT, replace(envelope_of(SENDER), sender=None), arrival_now())
    assert (await complete(submission, content)).code == 250
    assert [str(sender or "") for sender in upstream.senders] == ["", SENDER]
    assert delivery.accounts.holds() == ()
    assert await delivery.queue.counts() == {}
