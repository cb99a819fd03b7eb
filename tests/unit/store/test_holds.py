from dataclasses import replace
from datetime import timedelta

from relay.store.queue.holds import Cause
from relay.store.queue.messages import HoldRow, StoredRecipient
from relay.store.queue.queue import Queue
from tests.unit.store.store_kit import MINUTE, NOW, new, new_message

ACCOUNT = "acmejets/mailer"
HOLD = HoldRow(
    server="acmejets",
    username="mailer",
    address="",
    meaning="login-refused",
    reason="535 5.7.8 no",
    since=NOW,
    until=None,
    probes=0,
    next_probe=NOW + MINUTE,
    secret_version="v1",
)


async def test_holds_are_kept_replaced_and_dropped(queue: Queue) -> None:
    assert await queue.holds() == ()
    other = replace(HOLD, address="jane@acmejets.example", meaning="identity-refused", until=NOW, next_probe=None)
    await queue.put_hold(HOLD)
    await queue.put_hold(other)
    assert await queue.holds() == (HOLD, other)
    await queue.put_hold(replace(HOLD, probes=1))
    assert await queue.holds() == (replace(HOLD, probes=1), other)
    assert await queue.drop_hold("acmejets", "mailer", "")
    assert not await queue.drop_hold("acmejets", "mailer", "")
    assert await queue.holds() == (other,)


async def states(queue: Queue) -> dict[str, str]:
    return {message.id: message.state for message in await queue.list_queue(limit=99)}


async def hold_all(queue: Queue, *profiles: str | None) -> int:
    return await queue.hold_waiting(profiles, cause=Cause(ACCOUNT, "login-refused", "no login"), state="held", now=NOW)


async def test_what_waits_is_held_and_freed(queue: Queue) -> None:
    await queue.add(*(new(new_message(id_, profile=profile)) for id_, profile in (("a", "x"), ("b", None), ("c", "y"))))
    await queue.add(new(new_message("under way", profile="x", next_attempt=NOW - MINUTE)))
    taken = await queue.claim(["x"], 1, NOW, "sending")
    assert [message.id for message in taken] == ["under way"]
    assert await hold_all(queue, "x", None) == 2
    assert await states(queue) == {"a": "held", "b": "held", "c": "queued", "under way": "sending"}
    assert await queue.due_times() == {"y": NOW}
    assert sorted(await queue.held_for(), key=str) == [(ACCOUNT, "x"), (ACCOUNT, None)]
    assert await queue.free("other/account", state="queued", now=NOW) == 0
    assert await queue.free(ACCOUNT, profile=None, state="queued", now=NOW) == 1
    assert await queue.free(ACCOUNT, state="queued", now=NOW) == 1
    assert await queue.held_for() == ()
    assert await states(queue) == {"a": "queued", "b": "queued", "c": "queued", "under way": "sending"}


async def test_a_copy_that_waits_for_a_person_stays_when_its_message_is_freed(queue: Queue) -> None:
    message = new_message("a", to=("x@there.example", "y@there.example"))
    for_person = replace(message.recipients[0], state="held", meaning="unknown")
    await queue.add(new(replace(message, recipients=(for_person, message.recipients[1]))))
    await queue.add(
        new(
            replace(
                message,
                id="b",
                recipients=(for_person, replace(for_person, number=1)),
                state="held",
                next_attempt=None,
                held_by=ACCOUNT,
            )
        )
    )
    await queue.hold_waiting(["support"], cause=Cause(ACCOUNT, "quota", ""), state="held", now=NOW)
    held = await queue.message("a")
    assert held is not None
    assert [(one.state, one.meaning) for one in held.recipients] == [("held", "unknown"), ("held", "quota")]
    assert await queue.free(ACCOUNT, state="queued", now=NOW, keeping="unknown") == 1
    freed = await queue.message("a")
    assert freed is not None
    assert [one.state for one in freed.recipients] == ["held", "queued"]
    assert await states(queue) == {"a": "queued", "b": "held"}


async def test_a_held_message_says_by_whom_and_why_and_counts_the_time(queue: Queue) -> None:
    before = new_message("a", held_seconds=1.5)
    await queue.add(new(before))
    await hold_all(queue, "support")
    held = replace(
        before,
        state="held",
        next_attempt=None,
        held_by=ACCOUNT,
        held_since=NOW,
        reason="no login",
        recipients=(replace(before.recipients[0], state="held", meaning="login-refused"),),
    )
    assert await queue.message("a") == held
    later = NOW + timedelta(seconds=90, microseconds=500_000)
    await queue.free(ACCOUNT, state="queued", now=later)
    assert await queue.message("a") == replace(
        before,
        next_attempt=later,
        held_seconds=92.0,
        recipients=(replace(before.recipients[0], meaning="login-refused"),),
    )


async def test_only_the_recipients_that_wait_with_the_message_are_held(queue: Queue) -> None:
    message = new_message("a", to=("x@there.example", "y@there.example"))
    done = replace(message.recipients[0], state="delivered")
    await queue.add(new(replace(message, recipients=(done, message.recipients[1]))))

    async def recipients() -> list[str]:
        found = await queue.message("a")
        assert found is not None
        return [each.state for each in found.recipients if isinstance(each, StoredRecipient)]

    await hold_all(queue, "support")
    assert await recipients() == ["delivered", "held"]
    await queue.free(ACCOUNT, state="queued", now=NOW)
    assert await recipients() == ["delivered", "queued"]


async def test_what_pauses_is_held_only_when_it_is_due(queue: Queue) -> None:
    await queue.add(
        new(new_message("pausing", state="unknown", next_attempt=NOW + MINUTE)),
        new(new_message("over", state="unknown", next_attempt=NOW)),
        new(new_message("later", next_attempt=NOW + MINUTE)),
    )
    moved = await queue.hold_waiting(
        ["support"], cause=Cause(ACCOUNT, "login-refused", "no login"), state="held", now=NOW, pausing="unknown"
    )
    assert moved == 2
    await queue.free(ACCOUNT, state="queued", now=NOW)
    pausing = await queue.message("pausing")
    assert pausing is not None
    assert (pausing.state, pausing.next_attempt, pausing.held_seconds) == ("unknown", NOW + MINUTE, 0.0)


async def test_very_many_profiles_can_be_held_at_once(queue: Queue) -> None:
    names = [f"agent{number}" for number in range(1200)]
    await queue.add(*(new(new_message(profile=name)) for name in (names[0], names[600], names[1199])))
    assert await hold_all(queue, *names) == 3
    assert await hold_all(queue) == 0


async def test_one_message_alone_can_be_freed_to_try_it_out(queue: Queue) -> None:
    await queue.add(*(new(new_message(f"{number}")) for number in (1, 0, 2)))
    assert await hold_all(queue, "support") == 3
    assert await queue.free(ACCOUNT, state="queued", now=NOW, limit=1) == 1
    assert await states(queue) == {"0": "queued", "1": "held", "2": "held"}


async def test_very_many_messages_are_moved_in_many_transactions(queue: Queue) -> None:
    await queue.add(*(new(new_message(next_attempt=NOW + MINUTE)) for _ in range(1100)))
    assert await queue.make_due(NOW, profile="jane") == 0
    assert await queue.make_due(NOW, profile="support") == 1100
    assert await queue.make_due(NOW) == 0
    assert await queue.due_times() == {"support": NOW}
    assert await hold_all(queue, "support") == 1100
    assert await queue.free(ACCOUNT, state="queued", now=NOW, limit=1050) == 1050
    assert await queue.counts() == {"held": 50, "queued": 1050}
