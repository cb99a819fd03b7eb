"""An account whose server asks for a slower pace: pauses by steps, with fewer connections, and back again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from relay.config.settings import Delivery
from relay.delivery.holds import Accounts
from relay.delivery.outcome import Schedule
from relay.directory.model import Account, Meaning, Server
from relay.mail.address import Address
from relay.mail.reply import Reply
from relay.store.queue.messages import HoldRow
from relay.upstream.outcome import Failure, Outcome, Phase

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
SERVER = Server(name="acmejets", host="h", max_connections=8)
SHARED = Server(name="acmejets", host="h", max_connections=8, shared_limits=True)
JANE, JOHN = Account("acmejets", "jane"), Account("acmejets", "john")
SLOWER = Failure(phase=Phase.MAIL, reply=Reply(432, "4.3.2", "slower"), meaning=Meaning.THROTTLE, from_server=True)
PUT_OFF = Failure(phase=Phase.LOGIN, reply=Reply(454, "4.7.0", "not now"), meaning=Meaning.TEMPORARY, from_server=True)


def accounts() -> Accounts:
    """As if a day were between two looks at the clock."""
    return Accounts(Schedule.of(Delivery()), monotonic=count(step=86400.0).__next__)


def closing(words: str = "closing", *, is_new: bool = True, phase: Phase = Phase.GREETING) -> Outcome:
    failure = Failure(phase=phase, reply=Reply(421, "4.3.2", words), meaning=Meaning.TEMPORARY, from_server=True)
    return Outcome(host="h", failure=failure, on_new_connection=is_new)


def counted(known: Accounts, outcome: Outcome, account: Account = JANE) -> Meaning:
    failure = known.count(account, outcome).failure
    assert failure is not None
    return failure.meaning


def test_a_421_asks_for_a_slower_pace_only_when_a_new_connection_is_told_so_again() -> None:
    known = accounts()
    assert counted(known, closing(is_new=False, phase=Phase.RCPT)) is Meaning.TEMPORARY
    assert counted(known, closing(is_new=False, phase=Phase.MAIL)) is Meaning.TEMPORARY
    assert counted(known, closing(), JOHN) is Meaning.TEMPORARY, "of another account"
    assert counted(known, closing()) is Meaning.THROTTLE
    assert meaning_for(known, None) is None
    assert counted(known, closing()) is Meaning.TEMPORARY


def test_a_421_at_the_login_is_no_login_that_was_put_off() -> None:
    known = accounts()
    for _ in range(20):
        assert counted(known, closing(phase=Phase.LOGIN)) is not Meaning.LOGIN_REFUSED


def test_logins_that_are_put_off_within_one_pause_count_once() -> None:
    """Many messages wait: the fifth answer that counts comes no sooner than four pauses after the first."""
    now = [0.0]
    known = Accounts(Schedule.of(Delivery(retry=(60, 300))), monotonic=lambda: now[0])
    for moment in (0, 1, 2, 59, 60, 359, 360, 659, 660, 959):
        now[0] = moment
        assert {meaning_for(known, PUT_OFF) for _ in range(20)} == {Meaning.TEMPORARY}, moment
    now[0] = 960
    assert meaning_for(known, PUT_OFF) is Meaning.LOGIN_REFUSED


def meaning_for(known: Accounts, failure: Failure | None, account: Account = JANE) -> Meaning | None:
    accepted = None if failure else Reply(250, "2.0.0", "Ok")
    counted = known.count(account, Outcome(host="h", accepted=accepted, failure=failure)).failure
    return counted.meaning if counted else None


def test_the_fifth_login_in_a_row_that_is_put_off_is_a_refused_one() -> None:
    known, lost = accounts(), replace(PUT_OFF, phase=Phase.CONNECT)
    for failure in (PUT_OFF, PUT_OFF, lost, PUT_OFF, PUT_OFF):
        assert meaning_for(known, failure) is Meaning.TEMPORARY
    assert meaning_for(known, PUT_OFF, JOHN) is Meaning.TEMPORARY
    assert meaning_for(known, PUT_OFF) is Meaning.LOGIN_REFUSED


@pytest.mark.parametrize("between", [None, replace(PUT_OFF, phase=Phase.RCPT)])
def test_a_login_that_worked_begins_the_count_anew(between: Failure | None) -> None:
    known = accounts()
    for failure in (*[PUT_OFF] * 4, between, *[PUT_OFF] * 4):
        assert meaning_for(known, failure) is not Meaning.LOGIN_REFUSED
    assert meaning_for(known, PUT_OFF) is Meaning.LOGIN_REFUSED


def test_our_own_trouble_with_a_login_is_not_counted() -> None:
    known, own = accounts(), replace(PUT_OFF, from_server=False)
    assert {meaning_for(known, own) for _ in range(20)} == {Meaning.TEMPORARY}


def test_each_time_the_server_asks_the_pause_is_longer_and_the_connections_are_half() -> None:
    known, now, seen = accounts(), NOW, []
    for _ in range(6):
        pause = known.slow_down(SERVER, JANE, SLOWER, now)
        assert pause is not None
        seen.append(((pause.until - now).total_seconds(), known.connections(SERVER, JANE)))
        now = pause.until
        assert known.slowness_of(JANE, now) is None
    assert seen == [(30, 4), (60, 2), (120, 1), (300, 1), (600, 1), (600, 1)]
    assert known.connections(SERVER, JOHN) == 8


def test_what_was_under_way_when_the_pause_began_says_nothing_new() -> None:
    known = accounts()
    first = known.slow_down(SERVER, JANE, SLOWER, NOW)
    assert [known.slow_down(SERVER, JANE, SLOWER, NOW + timedelta(seconds=1)) for _ in range(3)] == [None] * 3
    assert known.slowness_of(JANE, NOW) == first
    assert known.connections(SERVER, JANE) == 4


def test_it_recovers_step_by_step_with_what_gets_through() -> None:
    known, now = accounts(), NOW
    for _ in range(3):
        pause = known.slow_down(SERVER, JANE, SLOWER, now)
        assert pause is not None
        now = pause.until
    seen = []
    for _ in range(40):
        known.speed_up(SERVER, JANE)
        seen.append(known.connections(SERVER, JANE))
    assert seen == sorted(seen)
    assert [seen.index(count) for count in range(2, 9)] == [0, 2, 5, 9, 14, 20, 27]
    pause = known.slow_down(SERVER, JANE, SLOWER, now)
    assert pause is not None
    assert pause.until == now + timedelta(seconds=30)


def test_accounts_that_share_limits_slow_down_together() -> None:
    known = accounts()
    assert known.slow_down(SHARED, JANE, SLOWER, NOW)
    assert known.slowness_of(JOHN, NOW) is not None
    assert known.connections(SHARED, JOHN) == 4
    known.release("acmejets", "john")
    assert known.slowness_of(JANE, NOW) is None


@pytest.mark.parametrize(
    ("meaning", "words", "seconds"),
    [
        (Meaning.QUOTA, "Daily user sending limit exceeded", 3600),
        (Meaning.QUOTA, "Daily user sending limit exceeded, try again in 6 hours", 6 * 3600),
        (Meaning.QUOTA, "limit exceeded, try again in 9999 days", 86400),
        (Meaning.LOCK_OUT, "throttled", 4 * 3600),
        (Meaning.LOCK_OUT, "locked for 30 minutes", 1800),
        (Meaning.ACCOUNT_FULL, "mailbox full, retry in 1 s", 60),
    ],
)
def test_an_account_rests_for_the_window_that_is_named_or_guessed(meaning: Meaning, words: str, seconds: float) -> None:
    failure = replace(SLOWER, reply=Reply(550, "5.4.5", words), meaning=meaning)
    row = accounts().hold(JANE, Address.parse("jane@acmejets.example"), failure, "", NOW)
    assert row.until == NOW + timedelta(seconds=seconds)


def test_what_is_due_moves_with_a_clock_that_is_set() -> None:
    known, step = accounts(), timedelta(days=5)
    full = replace(SLOWER, reply=Reply(550, "5.4.5", "full"), meaning=Meaning.ACCOUNT_FULL)
    before = known.hold(JANE, Address.parse("jane@acmejets.example"), full, "", NOW)
    pause = known.slow_down(SHARED, JOHN, SLOWER, NOW)
    assert pause is not None
    known.move(step.total_seconds())
    hold, slow = known.hold_of(JANE), known.slowness_of(JOHN, NOW)
    assert hold is not None
    assert before.until is not None
    assert (hold.since, hold.until) == (NOW + step, before.until + step)
    assert slow is not None
    assert slow.until == pause.until + step


def test_a_refused_login_waits_for_a_person_whatever_time_is_named() -> None:
    failure = replace(SLOWER, reply=Reply(535, "5.7.8", "no; retry in 5 minutes"), meaning=Meaning.LOGIN_REFUSED)
    row = accounts().hold(JANE, Address.parse("jane@acmejets.example"), failure, "", NOW)
    assert row.until is None


@pytest.mark.parametrize(
    ("words", "seconds"), [("slower", 30), ("retry in 10 s", 30), ("retry in 5 min", 300), ("retry in 9 h", 3600)]
)
def test_a_pause_is_as_long_as_the_server_names(words: str, seconds: float) -> None:
    pause = accounts().slow_down(SERVER, JANE, replace(SLOWER, reply=Reply(432, "4.3.2", words)), NOW)
    assert pause is not None
    assert pause.until == NOW + timedelta(seconds=seconds)


BUSY_LOGIN = Failure(
    phase=Phase.LOGIN,
    reply=Reply(451, "4.7.0", "Temporary server error"),
    meaning=Meaning.TEMPORARY,
    from_server=True,
)


def meanings(known: Accounts, *failures: Failure | None) -> list[Meaning | None]:
    outcomes = [
        Outcome(host="h", failure=failure) if failure else Outcome(host="h", accepted=Reply(250, "2.0.0", "Ok"))
        for failure in failures
    ]
    weighed = [known.count(JANE, outcome).failure for outcome in outcomes]
    return [failure.meaning if failure else None for failure in weighed]


def test_the_fifth_login_in_a_row_that_does_not_work_for_now_is_a_refused_one() -> None:
    known = accounts()
    assert meanings(known, *[BUSY_LOGIN] * 6) == [Meaning.TEMPORARY] * 4 + [Meaning.LOGIN_REFUSED] * 2
    assert known.count(JOHN, Outcome(host="h", failure=BUSY_LOGIN)).failure == BUSY_LOGIN
    weighed = known.count(JANE, Outcome(host="h", failure=BUSY_LOGIN)).failure
    assert weighed is not None
    assert weighed.why == "451 4.7.0 Temporary server error (7 logins in a row did not work)"


def test_only_what_comes_after_a_login_ends_the_row() -> None:
    known = accounts()
    away = replace(BUSY_LOGIN, phase=Phase.CONNECT, from_server=False)
    no_token = replace(BUSY_LOGIN, reply=Reply(535, "5.7.8", "no"), detail="the identity provider is away")
    meanings(known, BUSY_LOGIN, away, BUSY_LOGIN, no_token, BUSY_LOGIN, BUSY_LOGIN)
    assert meanings(known, BUSY_LOGIN) == [Meaning.LOGIN_REFUSED]
    assert meanings(known, None, BUSY_LOGIN) == [None, Meaning.TEMPORARY]
    meanings(known, *[BUSY_LOGIN] * 3)
    refused = replace(SLOWER, reply=Reply(550, "5.1.1", "nobody"), meaning=Meaning.REFUSED)
    assert meanings(known, refused, BUSY_LOGIN) == [Meaning.REFUSED, Meaning.TEMPORARY]
    meanings(known, *[BUSY_LOGIN] * 3)
    known.release(JANE.server, JANE.username)
    assert meanings(known, BUSY_LOGIN) == [Meaning.TEMPORARY]


def test_those_who_were_under_way_when_an_account_was_held_put_off_no_probe() -> None:
    known, address = accounts(), Address.parse("jane@acmejets.example")
    refused = replace(PUT_OFF, reply=Reply(535, "5.7.8", "no"), meaning=Meaning.LOGIN_REFUSED)
    before, after = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)
    assert not known.is_known(JANE, address, refused.meaning, "1", before)
    known.hold(JANE, address, refused, "1", NOW)
    assert known.is_known(JANE, address, refused.meaning, "1", before)
    assert not known.is_known(JANE, address, refused.meaning, "2", before), "another password was refused, too"
    assert not known.is_known(JANE, address, Meaning.QUOTA, "1", before)
    assert not known.is_known(JANE, address, refused.meaning, "1", after), "that was a probe"
    assert not known.is_known(JOHN, address, refused.meaning, "1", before)


def row(username: str, address: str = "", **facts: Any) -> HoldRow:
    held = HoldRow(
        server="acmejets",
        username=username,
        address=address,
        meaning="login-refused",
        reason="535",
        since=NOW,
        until=None,
        probes=0,
        next_probe=NOW,
        secret_version="1",
    )
    return replace(held, **facts)


def test_what_another_process_holds_and_lifts_is_taken_over() -> None:
    known = accounts()
    known.follow([row("jane"), row("john", "a@b")])
    assert {hold.username for hold in known.holds()} == {"jane", "john"}
    known.follow([row("jane", probes=2)])
    assert [hold.probes for hold in known.holds()] == [2]
    known.follow([])
    assert known.holds() == ()


def test_what_is_on_its_way_to_the_store_stays_as_it_is_here() -> None:
    known = accounts()
    known.follow([row("john")])
    known.hold(JANE, Address.parse("a@b.example"), replace(SLOWER, meaning=Meaning.LOGIN_REFUSED), "1", NOW)
    known.release("acmejets", "john")
    known.follow([row("john")])
    assert [hold.username for hold in known.holds()] == ["jane"]


def test_a_pause_is_told_to_the_others_and_heard_of_them() -> None:
    one, two = accounts(), accounts()
    one.on_pause = two.follow_pause
    pause = one.slow_down(SERVER, JANE, SLOWER, NOW)
    assert two.slowness_of(JANE, NOW) == pause
    one.release("acmejets", "jane")
    assert two.slowness_of(JANE, NOW) is None
