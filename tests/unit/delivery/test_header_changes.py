"""What the history has of a header that left: what each attempt changed in it, as its server and script were then."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from relay.delivery.history import History
from relay.delivery.outcome import State
from relay.directory.model import Meaning, Mode
from relay.directory.routing import Routing
from relay.directory.rules.validation import parse_directory
from relay.mail.content import Content
from relay.mail.header import Change, KeptChanges
from relay.mail.reply import Reply
from relay.store.queue.messages import Attempt
from relay.store.queue.queue import Queue
from relay.system.clock import utc_now
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.transaction import Progress, Transfer
from tests.unit.delivery.bench_kit import CLIENT, DIRECTORY, DeliveryKit, arrival_now, complete, envelope_of
from tests.unit.delivery.delivery_kit import SENDER, state_of, stored, upstream_of

SHARED = "billing@acmejets.example"
FROM = Change("From", f"The boss <boss@{SHARED.partition('@')[2]}>", "The boss <mailer@acmejets.example>")
REPLY_TO = Change("Reply-To", "", SHARED)
MESSAGE = Content(
    b"From: The boss <boss@acmejets.example>\r\nDate: Mon, 24 Nov 2025 09:05:07 +0000\r\nMessage-ID: <1@here>\r\n",
    (b"Hello\r\n",),
)
BUSY, NO = Reply(450, "4.2.1", "busy"), Reply(550, "5.1.1", "no such user")


def failed(reply: Reply, meaning: Meaning, phase: Phase) -> Outcome:
    return Outcome(host="127.0.0.1", failure=Failure(phase=phase, reply=reply, meaning=meaning, from_server=True))


def set_organization(delivery: DeliveryKit, value: str) -> None:
    """Let a script set a field in everybody's mail from now on."""
    script = {"scripts": {"default": {"set_headers": {"Organization": value}}}}
    routing = Routing(parse_directory(DIRECTORY | script, "directory.toml"))
    delivery.use(routing)


async def hand_in(delivery: DeliveryKit, mode: Mode, sender: str = SHARED) -> Attempt:
    """Hand a message over as a client does, and return its attempt as the history has it."""
    delivery.acceptance.mode = mode
    history, arrival = History(delivery.queue), arrival_now()
    acceptance = delivery.with_history(history)
    await complete(acceptance.open(CLIENT, envelope_of(sender), arrival), MESSAGE)
    await history.flush()
    (attempt,) = await delivery.queue.attempts(arrival.id)
    return attempt


async def try_once(delivery: DeliveryKit, later: timedelta = timedelta()) -> None:
    """Make the next attempt of the one message of support or billing that is due."""
    now = utc_now() + later
    delivery.recorder.clock = lambda: now
    (message,) = await delivery.queue.claim(["support", "billing"], 1, now, str(State.SENDING))
    await delivery.attempts.try_stored(message)


async def changes_of(delivery: DeliveryKit, id_: str) -> list[KeptChanges | None]:
    return [attempt.changes for attempt in await delivery.queue.attempts(id_)]


@pytest.mark.parametrize("mode", [Mode.DIRECT, Mode.AUTO])
async def test_a_message_that_never_was_in_the_queue_has_its_attempt_in_the_history(
    mode: Mode, delivery: DeliveryKit
) -> None:
    attempt = await hand_in(delivery, mode)
    assert attempt.changes == KeptChanges((FROM, REPLY_TO))
    assert (attempt.number, attempt.server, attempt.username) == (1, "acmejets", "mailer@acmejets.example")
    assert (attempt.phase, attempt.final_dot, attempt.meaning) == (str(Phase.FINAL), True, "")
    assert attempt.reply == "250 2.0.0 Ok: taken as 42"
    assert attempt.ended is not None
    assert attempt.ended >= attempt.started


@pytest.mark.parametrize("mode", [Mode.DIRECT, Mode.AUTO])
async def test_so_has_one_that_the_server_refused(mode: Mode, delivery: DeliveryKit) -> None:
    upstream_of(delivery).outcome = failed(NO, Meaning.REFUSED, Phase.RCPT)
    attempt = await hand_in(delivery, mode)
    assert attempt.changes == KeptChanges((FROM, REPLY_TO))
    assert (attempt.phase, attempt.final_dot, attempt.meaning) == (str(Phase.RCPT), False, "refused")
    assert attempt.reply == str(NO)


async def test_a_header_that_leaves_as_it_came_has_no_changes_which_is_known(delivery: DeliveryKit) -> None:
    upstream_of(delivery).outcome = Outcome(host="127.0.0.1", accepted=Reply(250, "2.0.0", "Ok"))
    id_ = await stored(delivery)
    await try_once(delivery)
    (changes,) = await changes_of(delivery, id_)
    assert changes is not None
    assert [one.field for one in changes.changes] == ["Date"]
    history, arrival = History(delivery.queue), arrival_now()
    whole = Content(f"From: {SENDER}\r\n".encode() + MESSAGE.header.partition(b"\r\n")[2], MESSAGE.body)
    delivery.acceptance.mode = Mode.DIRECT
    await complete(delivery.with_history(history).open(CLIENT, envelope_of(SENDER), arrival), whole)
    await history.flush()
    assert await changes_of(delivery, arrival.id) == [KeptChanges()]


async def test_each_attempt_has_what_it_changed_itself(delivery: DeliveryKit) -> None:
    """The first one reached the server's judgement of the whole message; then the script became another."""
    set_organization(delivery, "Acme Jets")
    upstream_of(delivery).outcome = failed(BUSY, Meaning.TEMPORARY, Phase.FINAL)
    id_ = await stored(delivery)
    await try_once(delivery)
    set_organization(delivery, "Acme Trains")
    upstream_of(delivery).outcome = Outcome(host="127.0.0.1", accepted=Reply(250, "2.0.0", "Ok"))
    await try_once(delivery, timedelta(hours=1))
    assert await state_of(delivery, id_) == State.DELIVERED
    first, second = await changes_of(delivery, id_)
    assert first is not None
    assert second is not None
    assert Change("Organization", "", "Acme Jets") in first.changes
    assert Change("Organization", "", "Acme Trains") in second.changes
    assert first.changes[:-1] == second.changes[:-1]


async def test_of_what_never_left_only_the_last_attempt_has_changes(delivery: DeliveryKit) -> None:
    """A message that waits is made anew each time; thirty copies of the same would tell nothing."""
    upstream_of(delivery).outcome = failed(BUSY, Meaning.TEMPORARY, Phase.RCPT)
    id_ = await stored(delivery)
    await try_once(delivery)
    assert await changes_of(delivery, id_) == [None]
    upstream_of(delivery).outcome = failed(NO, Meaning.REFUSED, Phase.RCPT)
    await try_once(delivery, timedelta(hours=1))
    assert await state_of(delivery, id_) == State.FAILED
    first, last = await changes_of(delivery, id_)
    assert first is None
    assert last is not None
    assert [one.field for one in last.changes] == ["Date"]


@pytest.mark.parametrize(("final_dot", "is_kept"), [(True, True), (False, False)])
async def test_what_a_crash_broke_off_keeps_its_changes_where_the_server_may_have_it(
    *, final_dot: bool, is_kept: bool, delivery: DeliveryKit
) -> None:
    """They are on disk before the attempt connects."""
    id_, began = await stored(delivery), asyncio.Event()

    async def hang(_: Transfer, progress: Progress) -> Outcome:
        if final_dot:
            assert progress.before_final_dot is not None
            await progress.before_final_dot()
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upstream_of(delivery), "deliver", hang)
        dying = asyncio.create_task(try_once(delivery))
        await began.wait()
        (under_way,) = await changes_of(delivery, id_)
        assert under_way is not None
        dying.cancel()
        await asyncio.wait({dying})
    delivery.recorder.queue = Queue(delivery.queue._database, "the next run")
    await delivery.recorder.take_back()
    assert await changes_of(delivery, id_) == [under_way if is_kept else None]


async def test_a_message_that_is_stored_in_the_middle_keeps_its_changes(delivery: DeliveryKit) -> None:
    """The client's patience ends, and the delivery goes on."""
    upstream_of(delivery).gate = asyncio.Event()
    delivery.acceptance.patience = 0.01
    attempt = await hand_in(delivery, Mode.AUTO)
    assert (attempt.ended, attempt.changes) == (None, KeptChanges((FROM, REPLY_TO)))
    upstream_of(delivery).gate.set()  # type: ignore[union-attr]
    await delivery.attempts.stop()
    (id_,) = [one.id for one in await delivery.queue.search(limit=2)]
    assert await changes_of(delivery, id_) == [attempt.changes]
    assert await state_of(delivery, id_) == State.DELIVERED


async def test_hostile_headers_are_kept_within_bounds(delivery: DeliveryKit) -> None:
    """Thousands of fields of the same name and a script of many: what is kept is little, and says that it is."""
    many: dict[str, Any] = {f"X-{number}": "ü" * 400 for number in range(60)}
    script = {"scripts": {"default": {"set_headers": many}}}
    routing = Routing(parse_directory(DIRECTORY | script, "directory.toml"))
    delivery.use(routing)
    delivery.acceptance.mode = Mode.DIRECT
    block = b"From: <x@acmejets.example>\r\nBcc: " + b"\xff\xfe <i>" * 90 + b"\r\n" + b"Sender: a@b.example\r\n" * 9000
    history, arrival = History(delivery.queue), arrival_now()
    acceptance = delivery.with_history(history)
    await complete(acceptance.open(CLIENT, envelope_of(SENDER), arrival), Content(block, (b"x\r\n",)))
    await history.flush()
    (attempt,) = await delivery.queue.attempts(arrival.id)
    assert attempt.changes is not None
    assert [one.field for one in attempt.changes.changes[:3]] == ["From", "Sender", "Bcc"]
    assert len(attempt.changes.changes) <= 50
    assert attempt.changes.left_out > 10
    assert sum(len(repr(one).encode()) for one in attempt.changes.changes) < 20_000
