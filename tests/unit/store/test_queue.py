from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from relay.mail.content import Content
from relay.mail.header import Change, KeptChanges
from relay.store.queue.messages import Fenced, Leased, NewMessage, NoContent, Settlement, StoredMessage
from relay.store.queue.queue import Queue
from tests.unit.store.store_kit import (
    CONTENT,
    MINUTE,
    NOW,
    StorePlace,
    attempt,
    delivered,
    history,
    new,
    new_message,
    open_queue,
    rich_message,
    settlement,
)


async def claimed(queue: Queue, id_: str = "a") -> StoredMessage:
    """A message that is in the store and under way."""
    await queue.add(new(new_message(id_)))
    message = await queue.claim_one(id_, "sending")
    assert message is not None
    return message


async def test_every_fact_of_a_message_comes_back(queue: Queue) -> None:
    await queue.add(NewMessage(message=rich_message(), content=CONTENT))
    assert await queue.message("rich") == rich_message()
    assert await queue.content("rich") == CONTENT
    null = new_message("null", profile=None)
    null = replace(null, envelope=replace(null.envelope, sender=None))
    await queue.add(new(null))
    assert await queue.message("null") == null
    assert await queue.message("other") is None


def test_a_message_with_other_facts_keeps_all_the_others() -> None:
    was = rich_message()
    assert was.changed() == was
    assert was.changed(state="held", attempts=9) == replace(was, state="held", attempts=9)
    with pytest.raises(TypeError):
        was.changed(stat="held")


async def test_every_fact_is_there_after_opening_the_store_again(place: StorePlace) -> None:
    async with open_queue(place) as queue:
        await queue.add(NewMessage(message=rich_message(), content=CONTENT))
    async with open_queue(place, "another run") as queue:
        assert await queue.message("rich") == rich_message()
        assert await queue.content("rich") == CONTENT


async def test_words_that_no_database_takes_are_written_otherwise(queue: Queue) -> None:
    await queue.add(new(new_message("a", subject="a\udce4b", message_id="x\0y", reason="\ud800")))
    message = await queue.message("a")
    assert message is not None
    assert (message.subject, message.message_id, message.reason) == ("a?b", "x?y", "?")


async def test_several_messages_are_stored_together_or_not_at_all(queue: Queue) -> None:
    with pytest.raises(IntegrityError):
        await queue.add(new(new_message("a")), new(new_message("b")), new(new_message("a")))
    assert await queue.counts() == {}
    await queue.add(new(new_message("a")), new(new_message("b")))
    assert await queue.counts() == {"queued": 2}


async def test_a_message_that_comes_under_way_is_leased_with_its_attempt(queue: Queue) -> None:
    await queue.add(new(new_message("a", fence=3), attempt=attempt(1, phase="data")))
    assert await queue.claim(["support"], 10, NOW, "sending") == []
    assert await queue.due_times() == {}
    assert await queue.attempts("a") == (attempt(1, phase="data"),)
    message = await queue.message("a")
    assert message is not None
    assert (message.attempts, message.server, message.username, message.fence) == (1, "acmejets", "mailer", 3)
    await queue.settle(delivered(message, attempt=attempt(1, ended=NOW)))
    assert await queue.attempts("a") == (attempt(1, ended=NOW),)


async def test_a_message_whose_attempt_is_over_waits(queue: Queue) -> None:
    await queue.add(new(new_message("a"), attempt=attempt(1, ended=NOW)))
    assert [message.attempts for message in await queue.claim(["support"], 10, NOW, "sending")] == [1]


async def test_history_is_finished_and_has_no_content(queue: Queue) -> None:
    done = [history(), replace(history(), attempt=attempt(ended=NOW))]
    await queue.record(done)
    await queue.record([])
    assert await queue.counts() == {}
    assert await queue.oldest() is None
    for each in done:
        with pytest.raises(NoContent):
            await queue.content(each.message.id)
    assert await queue.attempts(done[1].message.id) == (attempt(ended=NOW),)


def test_values_that_contradict_themselves_cannot_be() -> None:
    with pytest.raises(ValueError, match="without content"):
        NewMessage(message=new_message(), content=None)
    with pytest.raises(ValueError, match="finished message"):
        settlement(new_message(), is_finished=True)


async def test_an_attempt_is_recorded_step_by_step(queue: Queue) -> None:
    message = await claimed(queue)
    await queue.begin_attempt("a", message.fence, attempt(1))
    assert await queue.attempts("a") == (attempt(1),)
    await queue.mark_final_dot("a", message.fence, 1)
    assert await queue.attempts("a") == (attempt(1, final_dot=True),)
    with pytest.raises(Fenced):
        await queue.mark_final_dot("a", message.fence, 2)
    ended = attempt(1, phase="final", final_dot=True, ended=NOW, reply="451 no", meaning="temporary", tls="TLSv1.3")
    await queue.settle(settlement(message, attempt=ended))
    assert await queue.attempts("a") == (ended,)
    again = await queue.claim_one("a", "sending")
    assert again is not None
    assert (again.attempts, again.server, again.username, again.fence) == (1, "acmejets", "mailer", 2)
    await queue.settle(settlement(again, attempt=attempt(2, ended=NOW)))
    assert [each.number for each in await queue.attempts("a")] == [1, 2]


@pytest.mark.parametrize(
    "changes",
    [
        None,
        KeptChanges(),
        KeptChanges((Change("From", 'Jürgen "J" <j@x.example>', "🎈 \\ </script>"), Change("Bcc", "", "")), 1234567),
    ],
)
async def test_what_an_attempt_changed_in_the_header_comes_back_as_it_was(
    queue: Queue, changes: KeptChanges | None
) -> None:
    first, second = attempt(1, changes=changes, final_dot=True), attempt(2, changes=changes, ended=NOW)
    message = await claimed(queue)
    await queue.begin_attempt("a", message.fence, first)
    assert await queue.attempts("a") == (first,)
    await queue.settle(settlement(message, attempt=replace(first, ended=NOW)))
    await queue.record([replace(history(new_message("b")), attempt=second)])
    assert await queue.attempts("a") == (replace(first, ended=NOW),)
    assert await queue.attempts("b") == (second,)


async def test_what_no_database_takes_is_kept_as_a_question_mark_in_a_header_change_too(queue: Queue) -> None:
    odd = KeptChanges((Change("From", "a\ud800b", "x\0y"),))
    await queue.record([replace(history(new_message("a")), attempt=attempt(1, changes=odd))])
    assert await queue.attempts("a") == (attempt(1, changes=KeptChanges((Change("From", "a?b", "x\0y"),))),)


async def test_a_settlement_writes_all_that_it_says(queue: Queue) -> None:
    message = new_message("a", to=("x@there.example", "y@there.example"))
    await queue.add(new(message))
    taken = await queue.claim_one("a", "sending")
    assert taken is not None
    changed = replace(taken.recipients[1], state="failed", reply="550 no", meaning="refused", changed=NOW)
    written = settlement(
        taken,
        recipients=(changed,),
        state="held",
        next_attempt=None,
        reason="login-refused: 535",
        unknowns=1,
        warned=True,
        held_since=NOW,
        held_seconds=1.5,
        held_by="acmejets/mailer",
        delivered=NOW,
        reply="250 partly",
    )
    await queue.settle(written)
    after = await queue.message("a")
    assert after is not None
    assert after.recipients == (taken.recipients[0], changed)
    same = ("state", "next_attempt", "reason", "unknowns", "warned", "held_since", "held_seconds", "held_by", "reply")
    assert [getattr(after, name) for name in same] == [getattr(written, name) for name in same]
    assert await queue.content("a") == CONTENT


async def test_a_finished_message_keeps_all_but_its_content(queue: Queue) -> None:
    message = await claimed(queue)
    await queue.settle(delivered(message))
    after = await queue.message("a")
    assert after is not None
    assert (after.state, after.delivered, after.recipients[0].reply) == ("delivered", NOW, "250 ok")
    with pytest.raises(NoContent):
        await queue.content("a")
    assert [chunk async for chunk in queue.chunks("a")] == []
    assert await queue.due_times() == {}


async def test_reports_are_stored_with_the_settlement_or_not_at_all(queue: Queue) -> None:
    message = await claimed(queue)
    report = new(new_message("report", is_report=True, profile=None))
    with pytest.raises(IntegrityError):  # the second report's id is taken
        await queue.settle(delivered(message, reports=(report, new(new_message("a")))))
    assert await queue.message("report") is None
    still = await queue.message("a")
    assert still is not None
    assert still.state == "sending"
    assert await queue.content("a") == CONTENT
    await queue.settle(delivered(message, reports=(report,)))
    assert await queue.content("report") == CONTENT
    assert set(await queue.due_times()) == {None}


async def check_too_late(queue: Queue, message: StoredMessage) -> None:
    report = new(new_message("report"))
    with pytest.raises(Fenced):
        await queue.settle(delivered(message, attempt=attempt(1, reply="late"), reports=(report,)))
    with pytest.raises(Fenced):
        await queue.begin_attempt(message.id, message.fence, attempt(9))
    with pytest.raises(Fenced):
        await queue.mark_final_dot(message.id, message.fence, 1)
    with pytest.raises(Fenced):
        await queue.release_lease(message.id, message.fence, "queued")
    assert await queue.message("report") is None


async def test_a_late_owner_writes_nothing(place: StorePlace) -> None:
    async with open_queue(place) as first, open_queue(place, "other") as second:
        message = await claimed(first)
        await first.begin_attempt("a", message.fence, attempt(1))
        taken = [each async for each in second.take_back(NOW)]
        await check_too_late(first, message)
        assert taken == [(replace(message, fence=2, attempts=1, server="acmejets", username="mailer"), attempt(1))]
        assert await first.message("a") == taken[0][0]
        assert await first.attempts("a") == (attempt(1),)
        assert await first.content("a") == CONTENT
        await second.settle(settlement(taken[0][0]))
        await check_too_late(second, taken[0][0])  # settled already, and so not its own any more


async def test_a_removed_message_fences_too(queue: Queue) -> None:
    await check_too_late(queue, new_message("gone", fence=1))


async def test_a_released_lease_leaves_the_message_as_it_was(queue: Queue) -> None:
    before = new_message("a")
    message = await claimed(queue)
    await queue.release_lease("a", message.fence, "queued")
    assert await queue.message("a") == replace(before, fence=1)
    assert [each.id for each in await queue.claim(["support"], 1, NOW, "sending")] == ["a"]


async def test_an_edit_reads_and_writes_in_one_go(queue: Queue) -> None:
    await queue.add(new(new_message("a")))
    seen: list[StoredMessage] = []

    def hold(message: StoredMessage) -> Settlement:
        seen.append(message)
        return settlement(message, state="held", next_attempt=None, reason="by hand", held_since=NOW)

    assert await queue.edit("a", hold)
    after = await queue.message("a")
    assert after is not None
    assert seen[0].state == "queued"
    assert (after.state, after.next_attempt, after.reason) == ("held", None, "by hand")
    assert await queue.claim(["support"], 1, NOW, "sending") == []
    assert not await queue.edit("missing", hold)
    assert not await queue.edit("a", lambda _: None)
    assert await queue.edit("a", lambda message: delivered(message, state="removed", delivered=None))
    assert [chunk async for chunk in queue.chunks("a")] == []


async def test_what_is_under_way_cannot_be_edited(queue: Queue) -> None:
    message = await claimed(queue)
    with pytest.raises(Leased):
        await queue.edit("a", delivered)
    assert await queue.message("a") == message
    await queue.settle(delivered(message))


async def test_an_edit_that_raises_changes_nothing(queue: Queue) -> None:
    await queue.add(new(new_message("a")))

    def fail(message: StoredMessage) -> None:
        raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        await queue.edit("a", fail)
    assert await queue.message("a") == new_message("a")


async def test_purging_forgets_what_was_finished_before(place: StorePlace) -> None:
    async with open_queue(place) as queue:
        await queue.record([history() for _ in range(1200)])
        message = await claimed(queue)
        await queue.begin_attempt("a", message.fence, attempt(1))
        await queue.settle(delivered(message, attempt=attempt(1, ended=NOW)))
        await queue.add(new(new_message("open", created=NOW - timedelta(days=900))))
        assert await queue.purge(NOW) == 0
        assert await queue.purge(NOW + MINUTE) == 1201
        assert await queue.message("a") is None
        assert await queue.attempts("a") == ()
        assert await queue.content("open") == CONTENT
        assert await queue.purge(NOW + MINUTE) == 0


async def test_the_room_of_what_was_deleted_goes_back_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    large = Content(b"", tuple(b"x" * 65536 for _ in range(128)))
    async with open_queue(path) as queue:
        await queue.add(*(NewMessage(message=new_message(f"{number}"), content=large) for number in range(2)))
        await queue.add(new(new_message("a")))
        for id_ in ("0", "1"):
            message = await queue.claim_one(id_, "sending")
            assert message is not None
            await queue.settle(delivered(message))
        assert await queue.shrink() > 4000
        assert await queue.shrink() == 0
        assert await queue.content("a") == CONTENT
    assert path.stat().st_size < 1 << 20


async def test_a_message_as_it_came(queue: Queue) -> None:
    bodies = ((), (b"only\r\n",), tuple(b"line\r\n" * 11_000 for _ in range(20)))
    for number, body in enumerate(bodies):
        for header in (b"", b"Subject: x\r\n", b"X: " + b"y" * 700_000 + b"\r\n"):
            id_ = f"{number} {len(header)}"
            content = Content(header, body)
            await queue.add(NewMessage(message=new_message(id_), content=content))
            again = await queue.content(id_)
            assert again.header == header
            assert b"".join(again.body) == b"".join(body)
            assert b"".join([chunk async for chunk in queue.chunks(id_)]) == b"".join(content.chunks())
