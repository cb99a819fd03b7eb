"""What follows from an attempt, row by row."""

from dataclasses import replace
from datetime import timedelta

import pytest

from relay.delivery.outcome import State, Unknown, begun, consequence_of, copies_of, judge
from relay.directory.model import Meaning
from relay.upstream.outcome import Outcome, Phase
from tests.unit.delivery.outcome_kit import NOW, SCHEDULE, TAKEN, failure, message_for, verdict_on


@pytest.mark.parametrize(
    ("meaning", "state", "pause"),
    [
        (Meaning.REFUSED, State.FAILED, None),
        (Meaning.TEMPORARY, State.QUEUED, 60),
        (Meaning.THROTTLE, State.QUEUED, 60),
        (Meaning.UNKNOWN, State.UNKNOWN, 1800),
        (Meaning.LOGIN_REFUSED, State.HELD, None),
        (Meaning.IDENTITY_REFUSED, State.HELD, None),
        (Meaning.QUOTA, State.HELD, None),
        (Meaning.LOCK_OUT, State.HELD, None),
        (Meaning.ACCOUNT_FULL, State.HELD, None),
    ],
)
def test_what_each_meaning_does_to_a_message(meaning: Meaning, state: State, pause: float | None) -> None:
    outcome = Outcome(host="upstream", failure=failure(meaning))
    verdict = verdict_on(message_for(), outcome)
    assert verdict.message.state == state
    assert verdict.message.next_attempt == (NOW + timedelta(seconds=pause) if pause is not None else None)
    assert (verdict.message.held_since == NOW) == (state is State.HELD)
    assert len(verdict.failed) == (state is State.FAILED)
    concerns = {Meaning.REFUSED, Meaning.TEMPORARY, Meaning.UNKNOWN}
    assert (consequence_of(outcome) is None) == (meaning in concerns)


def test_every_copy_has_its_own_end() -> None:
    outcome = Outcome(
        host="upstream", accepted=TAKEN, refused={1: failure(Meaning.REFUSED, 550), 2: failure(Meaning.TEMPORARY)}
    )
    verdict = verdict_on(message_for(3), outcome)
    assert [one.state for one in verdict.message.recipients] == [State.DELIVERED, State.FAILED, State.QUEUED]
    assert verdict.message.state == State.QUEUED
    assert [copy.number for copy in verdict.failed] == [1]
    assert [copy.number for copy in verdict.delivered] == [0]
    assert verdict.message.reason == "refused: 550 5.0.0 said the server"


def test_who_has_it_is_not_sent_to_again() -> None:
    first = verdict_on(message_for(2), Outcome(host="u", accepted=TAKEN, refused={1: failure(Meaning.TEMPORARY)}))
    second = verdict_on(first.message, Outcome(host="u", accepted=TAKEN))
    assert [copy.number for copy in second.delivered] == [1]
    assert second.message.state == State.DELIVERED
    assert second.message.delivered == NOW
    assert not second.is_open


def test_the_rest_goes_at_once_while_each_transaction_gets_on() -> None:
    rest = failure(Meaning.TEMPORARY, 452, rest=True)
    some = verdict_on(message_for(2), Outcome(host="u", accepted=TAKEN, refused={1: rest}))
    assert some.message.next_attempt == NOW
    none = verdict_on(message_for(2), Outcome(host="u", failure=rest, refused={0: rest, 1: rest}))
    assert none.message.next_attempt == NOW + timedelta(seconds=60)


def test_a_second_unknown_is_held() -> None:
    outcome = Outcome(host="u", failure=failure(Meaning.UNKNOWN, phase=Phase.FINAL))
    first = verdict_on(message_for(), outcome)
    assert (first.message.state, first.message.unknowns) == (State.UNKNOWN, 1)
    second = verdict_on(first.message, outcome)
    assert second.message.state == State.HELD
    assert consequence_of(outcome) is None, "the account has done nothing wrong"


def test_an_attempt_that_ends_before_its_dot_does_not_use_the_retry_up() -> None:
    first = verdict_on(message_for(), Outcome(host="u", failure=failure(Meaning.UNKNOWN, phase=Phase.FINAL)))
    between = verdict_on(first.message, Outcome(host="u", failure=failure(Meaning.TEMPORARY)))
    assert (between.message.state, between.message.unknowns) == (State.QUEUED, 1)


def test_unknown_may_be_set_to_hold_at_once() -> None:
    outcome = Outcome(host="u", failure=failure(Meaning.UNKNOWN, phase=Phase.FINAL))
    assert verdict_on(message_for(), outcome, replace(SCHEDULE, unknown=Unknown.HOLD)).message.state == State.HELD


@pytest.mark.parametrize(
    ("age", "set_by", "is_over"), [(1, 120, False), (125, 120, False), (217, 120, True), (95, -2, True)]
)
def test_a_clock_that_was_set_counts_for_nothing(age: float, set_by: float, is_over: bool) -> None:
    """`age` is what the wall clock says, in hours, and `set_by` how far it was set since the message came."""
    message = begun(message_for(age=age * 3600))
    copies = copies_of(message, Outcome(host="u", failure=failure(Meaning.TEMPORARY)))
    came = replace(message, clock_ahead=7.0)
    verdict = judge(came, copies, now=NOW, schedule=SCHEDULE, chance=0.5, ahead=7.0 + set_by * 3600)
    assert (verdict.message.state == State.FAILED) == is_over


@pytest.mark.parametrize(("age", "held", "is_over"), [(95, 0, False), (97, 0, True), (97, 2, False)])
def test_a_message_is_given_up_after_its_time_without_what_it_was_held(age: float, held: float, is_over: bool) -> None:
    message = message_for(age=age * 3600, held=held * 3600)
    verdict = verdict_on(message, Outcome(host="u", failure=failure(Meaning.TEMPORARY)))
    assert (verdict.message.state == State.FAILED) == is_over
    assert len(verdict.failed) == is_over


def test_a_held_account_gives_nothing_up() -> None:
    verdict = verdict_on(message_for(age=200 * 3600), Outcome(host="u", failure=failure(Meaning.LOGIN_REFUSED)))
    assert verdict.message.state == State.HELD
    assert not verdict.failed


def test_the_sender_is_told_of_a_delay_once() -> None:
    outcome = Outcome(host="u", failure=failure(Meaning.TEMPORARY))
    first = verdict_on(message_for(age=5 * 3600), outcome)
    assert first.is_delayed
    assert [copy.number for copy in first.waiting] == [0]
    assert not verdict_on(first.message, outcome).is_delayed


@pytest.mark.parametrize("meaning", [Meaning.LOGIN_REFUSED, Meaning.UNKNOWN])
def test_nobody_is_told_of_a_delay_of_what_is_held_or_may_have_arrived(meaning: Meaning) -> None:
    verdict = verdict_on(message_for(age=5 * 3600), Outcome(host="u", failure=failure(meaning, phase=Phase.FINAL)))
    assert (verdict.is_delayed, verdict.message.warned, verdict.waiting) == (False, False, ())


def test_only_copies_that_are_tried_again_are_late() -> None:
    outcome = Outcome(host="u", accepted=TAKEN, refused={1: failure(Meaning.REFUSED), 2: failure(Meaning.TEMPORARY)})
    verdict = verdict_on(message_for(3, age=5 * 3600), outcome)
    assert verdict.is_delayed
    assert [copy.number for copy in verdict.waiting] == [2]


@pytest.mark.parametrize(
    ("age", "held", "warned", "pause"),
    [
        (10, 0, False, 7200),  # nothing is near: the pause of the schedule
        (4 * 3600 - 60, 0, False, 60),  # a minute before it is late
        (4 * 3600 - 60, 3600, False, 3660),  # time spent held does not count
        (4 * 3600 - 60, 0, True, 7200),  # the sender knows
        (96 * 3600 - 60, 0, True, 60),  # a minute before it is over
    ],
)
def test_a_message_is_tried_again_when_it_is_late_and_when_it_is_over(
    age: float, held: float, warned: bool, pause: float
) -> None:
    """Or its sender would be told after the next pause, which is hours long by then."""
    message = replace(message_for(age=age, held=held), warned=warned)
    slow = replace(SCHEDULE, retry=(7200.0,))
    verdict = verdict_on(message, Outcome(host="u", failure=failure(Meaning.TEMPORARY)), slow)
    assert verdict.message.next_attempt == NOW + timedelta(seconds=pause)


@pytest.mark.parametrize("other", [Meaning.TEMPORARY, Meaning.UNKNOWN])
def test_a_copy_that_waits_for_its_account_goes_along_with_the_next_attempt(other: Meaning) -> None:
    """The account is not held any more, or there would be no attempt. Nothing else would free the copy."""
    refused = {1: failure(Meaning.QUOTA, 550)}
    if other is Meaning.UNKNOWN:
        first = verdict_on(
            message_for(2), Outcome(host="u", failure=failure(other, phase=Phase.FINAL), refused=refused)
        )
    else:
        first = verdict_on(message_for(2), Outcome(host="u", accepted=TAKEN, refused={0: failure(other), **refused}))
    assert first.message.state != State.HELD
    assert first.message.recipients[1].state == State.HELD
    second = verdict_on(first.message, Outcome(host="u", accepted=TAKEN))
    assert [one.state for one in second.message.recipients] == [State.DELIVERED] * 2


def test_a_copy_that_was_unknown_twice_waits_for_a_person_while_the_others_go_on() -> None:
    first = verdict_on(message_for(), Outcome(host="u", failure=failure(Meaning.UNKNOWN, phase=Phase.FINAL)))
    held = verdict_on(first.message, Outcome(host="u", failure=failure(Meaning.UNKNOWN, phase=Phase.FINAL)))
    other = replace(message_for(2).recipients[1])
    both = replace(held.message, state="queued", recipients=(*held.message.recipients, other))
    after = verdict_on(both, Outcome(host="u", accepted=TAKEN)).message
    assert [one.state for one in after.recipients] == [State.HELD, State.DELIVERED]
    assert after.state == State.HELD
    assert after.held_since == NOW
    assert after.reason == "unknown: 451 4.0.0 said the server"


def test_the_reply_of_a_message_is_about_the_copy_that_decides_its_state() -> None:
    """A message that failed for one of two does not say that its server took it."""
    outcome = Outcome(host="u", accepted=TAKEN, refused={1: failure(Meaning.REFUSED, 550)})
    message = verdict_on(message_for(2), outcome).message
    assert (message.state, message.reply) == (State.FAILED, "550 5.0.0 said the server")
    first = verdict_on(message_for(2), Outcome(host="u", accepted=TAKEN, refused={1: failure(Meaning.TEMPORARY)}))
    over = verdict_on(first.message, Outcome(host="u", failure=failure(Meaning.REFUSED, 550))).message
    assert (over.state, over.reply) == (State.FAILED, "550 5.0.0 said the server")
    late = verdict_on(
        message_for(2),
        Outcome(host="u", accepted=TAKEN, refused={0: failure(Meaning.REFUSED, 550), 1: failure(Meaning.TEMPORARY)}),
    )
    done = verdict_on(late.message, Outcome(host="u", accepted=TAKEN)).message
    assert (done.state, done.reply) == (State.FAILED, "550 5.0.0 said the server")
