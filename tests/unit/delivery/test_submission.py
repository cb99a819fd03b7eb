"""What becomes of a message that is handed over while its client waits (mode direct)."""

import asyncio
from datetime import UTC, datetime

import pytest

from relay.delivery.events import Ending
from relay.directory.client import Client
from relay.directory.model import Meaning, Mode
from relay.mail.content import Content
from relay.mail.reply import Reply
from relay.store.queue.messages import NewMessage
from relay.upstream.outcome import Failure, Outcome, Phase
from tests.unit.delivery.bench_kit import (
    CLIENT,
    MESSAGE,
    FakeUpstream,
    Maker,
    arrival_now,
    complete,
    envelope_of,
    failed,
)


@pytest.mark.parametrize(
    ("sender", "account", "identity", "password"),
    [
        ("news@acmejets.example", "house/house@acmejets.example", "house@acmejets.example", "house-password"),
        ("billing@acmejets.example", "acmejets/mailer@acmejets.example", "mailer@acmejets.example", "server-password"),
        ("support@acmejets.example", "acmejets/support@acmejets.example", "support@acmejets.example", "own-password"),
    ],
)
async def test_the_three_ways_log_in_and_leave_as_one_identity(
    make_bench: Maker, sender: str, account: str, identity: str, password: str
) -> None:
    bench = make_bench()
    reply = await bench.send(sender)
    (transfer,) = bench.upstream.transfers
    assert str(reply) == f"250 2.0.0 Ok: delivered via {transfer.server.name}: Ok: taken as 42"
    assert str(transfer.account) == account
    assert str(transfer.sender) == identity
    assert f"\r\nFrom: {identity}\r\n".encode() in b"\r\n" + transfer.content.header
    assert transfer.secret is not None
    assert transfer.secret.value == password
    assert transfer.all_or_none
    (journey,) = bench.journeys
    assert journey.ending is Ending.DELIVERED
    assert journey.message_id == "<1@here>"
    assert password not in repr(journey)


@pytest.mark.parametrize(
    ("meaning", "upstream", "client"),
    [
        (Meaning.REFUSED, Reply(550, "5.1.1", "no such user"), "550 5.1.1 no such user"),
        (Meaning.REFUSED, Reply(554, "5.0.0", "no"), "554 5.0.0 no"),
        (Meaning.TEMPORARY, Reply(450, "4.2.0", "greylisted"), "451 4.2.0 greylisted"),
        (Meaning.QUOTA, Reply(550, "5.4.5", "Daily user sending limit exceeded"), "451 4.7.8 "),
        (Meaning.LOGIN_REFUSED, Reply(535, "5.7.8", "bad password"), "451 4.7.8 "),
        (Meaning.IDENTITY_REFUSED, Reply(554, "5.2.252", "SendAsDenied"), "451 4.7.8 "),
        (Meaning.ACCOUNT_FULL, Reply(554, "5.2.2", "mailbox full"), "451 4.7.8 "),
        (Meaning.UNKNOWN, Reply(451, "4.4.2", "lost"), "451 4.4.2 "),
    ],
)
async def test_only_a_refusal_is_final_for_the_client(
    make_bench: Maker, meaning: Meaning, upstream: Reply, client: str
) -> None:
    bench = make_bench(failed(meaning, upstream))
    reply = await bench.send("support@acmejets.example")
    assert str(reply).startswith(client)
    (journey,) = bench.journeys
    assert journey.ending is (Ending.FAILED if reply.is_permanent else Ending.DEFERRED)
    assert journey.upstream == upstream


@pytest.mark.parametrize(
    ("meaning", "what_to_do"),
    [
        (Meaning.LOGIN_REFUSED, "please check it, or tell your administrator"),
        (Meaning.IDENTITY_REFUSED, "please tell your administrator"),
        (Meaning.QUOTA, "please try again later"),
        (Meaning.LOCK_OUT, "please try again later, or tell your administrator"),
        (Meaning.ACCOUNT_FULL, "please delete mail in it, or tell your administrator"),
    ],
)
async def test_whatever_holds_an_account_its_client_hears_the_same_code_and_what_to_do(
    make_bench: Maker, meaning: Meaning, what_to_do: str
) -> None:
    bench = make_bench(failed(meaning, Reply(550, "5.0.0", "in the words of the server")))
    said = [str(await bench.send("support@acmejets.example")) for _ in range(2)]
    assert len(bench.upstream.transfers) == 1, "the second meets the hold"
    assert said[0] == said[1]
    assert said[0].startswith("451 4.7.8 ")
    assert said[0].endswith(f"; {what_to_do}")


async def test_what_a_login_refusal_said_is_for_the_log_not_for_the_client(make_bench: Maker) -> None:
    bench = make_bench(failed(Meaning.LOGIN_REFUSED, Reply(535, "5.7.8", "account mailer at host 10.0.0.1")))
    reply = await bench.send("support@acmejets.example")
    assert "mailer" not in reply.text
    assert bench.journeys[0].upstream == Reply(535, "5.7.8", "account mailer at host 10.0.0.1")


@pytest.mark.parametrize(
    ("sender", "said"),
    [
        ("nobody@acmejets.example", "550 5.7.1 <nobody@acmejets.example>: no channel or agent sends from this address"),
        (
            "bare@acmejets.example",
            (
                "550 5.7.8 <bare@acmejets.example>: no email password is configured for this account; "
                "set it at http://relay.test/profile"
            ),
        ),
        ("support@acmejets.example", None),
        (None, None),
    ],
)
async def test_mail_is_judged_by_its_sender(make_bench: Maker, sender: str | None, said: str | None) -> None:
    reply = make_bench().acceptance.check_sender(CLIENT, envelope_of(sender))
    assert (str(reply) if reply else None) == said


async def test_a_client_sends_only_as_what_it_may_and_a_stranger_not_at_all(make_bench: Maker) -> None:
    acceptance = make_bench().acceptance
    app = Client("app", "127.0.0.1", ("billing",), is_trusted=True)
    stranger = Client("192.0.2.1", "192.0.2.1", (), is_trusted=False)
    refusal = acceptance.check_sender(app, envelope_of("support@acmejets.example"))
    assert str(refusal) == "550 5.7.1 <support@acmejets.example>: app may not send as this address"
    assert acceptance.check_sender(app, envelope_of("billing@acmejets.example")) is None
    for sender in ("support@acmejets.example", None):
        assert str(acceptance.check_sender(stranger, envelope_of(sender))) == "530 5.7.0 Authentication required"


async def test_a_null_sender_is_routed_by_from_and_stays_null(make_bench: Maker) -> None:
    bench = make_bench()
    assert (await bench.send(None)).code == 250
    (transfer,) = bench.upstream.transfers
    assert transfer.sender is None
    assert str(transfer.account) == "acmejets/support@acmejets.example"


async def test_a_null_sender_without_a_clear_from_is_refused(make_bench: Maker) -> None:
    bench = make_bench()
    reply = await bench.send(None, Content(b"Subject: hi\r\n", (b"x\r\n",)))
    assert str(reply).startswith("550 5.7.1 <>: ")
    assert bench.upstream.transfers == []
    assert bench.journeys[0].ending is Ending.REFUSED


async def test_a_server_without_its_password_keeps_the_message_with_the_client(make_bench: Maker) -> None:
    bench = make_bench()
    reply = await bench.send("lost@acmejets.example")
    assert str(reply).startswith("451 4.7.8 ")
    assert bench.journeys[0].detail == "no password is set for nulls/nulls@acmejets.example"


async def test_an_ambiguous_header_never_reaches_an_upstream(make_bench: Maker) -> None:
    bench = make_bench()
    reply = await bench.send("support@acmejets.example", Content(b"From : x@y.example\r\n", (b"x\r\n",)))
    assert str(reply).startswith("554 5.6.0 ")
    assert bench.upstream.transfers == []


async def test_all_recipients_or_none(make_bench: Maker) -> None:
    refusal = Failure(
        phase=Phase.RCPT, reply=Reply(550, "5.1.1", "no such user"), meaning=Meaning.REFUSED, from_server=True
    )
    bench = make_bench(FakeUpstream(Outcome(host="127.0.0.1", refused={1: refusal}, failure=refusal)))
    reply = await bench.send("support@acmejets.example", to="a@example.net,b@example.net")
    assert str(reply) == "550 5.1.1 no such user"


async def test_a_client_that_leaves_before_the_final_dot_ends_the_attempt(make_bench: Maker) -> None:
    bench = make_bench(FakeUpstream(gate=asyncio.Event()))
    submission = bench.acceptance.open(CLIENT, envelope_of("support@acmejets.example"), arrival_now())
    task = asyncio.create_task(complete(submission, MESSAGE))
    await bench.upstream.began.wait()
    submission.client_left()
    assert (await task).code == 451
    assert bench.upstream.was_cancelled
    assert bench.journeys[0].ending is Ending.DEFERRED


async def test_after_the_final_dot_the_outcome_is_recorded_even_without_a_client(make_bench: Maker) -> None:
    gate = asyncio.Event()
    bench = make_bench(FakeUpstream(gate=gate, stops_after_dot=True), direct_patience=0.01)
    submission = bench.acceptance.open(CLIENT, envelope_of("support@acmejets.example"), arrival_now())
    task = asyncio.create_task(complete(submission, MESSAGE))
    await bench.upstream.began.wait()
    submission.client_left()
    await asyncio.sleep(0.05)  # patience runs out meanwhile: it must not matter any more
    gate.set()
    assert (await task).code == 250
    assert not bench.upstream.was_cancelled
    assert bench.journeys[0].ending is Ending.DELIVERED


async def test_patience_ends_before_the_client_gives_up(make_bench: Maker) -> None:
    bench = make_bench(FakeUpstream(gate=asyncio.Event()), direct_patience=0.01)
    reply = await bench.send("support@acmejets.example")
    assert str(reply).startswith("451 4.4.1 ")
    assert bench.upstream.was_cancelled


async def test_the_history_says_when_the_server_took_a_message(make_bench: Maker) -> None:
    gate = asyncio.Event()
    bench = make_bench(FakeUpstream(gate=gate))
    sending = asyncio.create_task(bench.send("support@acmejets.example"))
    await bench.upstream.began.wait()
    taken = datetime.now(UTC)
    gate.set()
    assert (await sending).code == 250
    await bench.acceptance.history.flush()
    (message,) = await bench.acceptance.attempts.recorder.queue.search(limit=2)
    assert message.delivered is not None
    assert message.created <= taken <= message.delivered <= datetime.now(UTC)


async def test_a_client_that_leaves_while_its_message_is_being_stored_leaves_none_under_way(make_bench: Maker) -> None:
    """Its patience is over and it will have its 250, so the delivery goes on: nobody else would end it."""
    gate = asyncio.Event()
    bench = make_bench(FakeUpstream(gate=gate), mode=Mode.AUTO, patience=0.01)
    queue = bench.acceptance.attempts.recorder.queue
    submission = bench.acceptance.open(CLIENT, envelope_of("support@acmejets.example"), arrival_now())
    add = queue.add

    async def add_late(*news: NewMessage) -> None:
        submission.client_left()
        await add(*news)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "add", add_late)
        assert (await complete(submission, MESSAGE)).code == 250
    gate.set()
    await bench.acceptance.attempts.stop()
    assert not bench.upstream.was_cancelled
    assert await queue.counts() == {}
    (message,) = await queue.search(limit=2)
    assert message.state == "delivered"


async def test_a_service_that_stops_does_not_cut_a_hand_over(make_bench: Maker) -> None:
    gate = asyncio.Event()
    bench = make_bench(FakeUpstream(gate=gate))
    submission = bench.acceptance.open(CLIENT, envelope_of("support@acmejets.example"), arrival_now())
    task = asyncio.create_task(complete(submission, MESSAGE))
    await bench.upstream.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not bench.upstream.was_cancelled
    gate.set()
