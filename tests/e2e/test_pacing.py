"""Within the limits of a provider that counts: nothing is ever refused for speed, and little of it is left unused."""

import json
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from typing import Any

import pytest

from relay.mail.reply import Reply
from tests.e2e.paced import BODY, MINUTE, SUPPORT, directory, settings, windows
from tests.peers.fixtures import StartRelay
from tests.peers.provider import Provider, Taken, provider_server
from tests.peers.relay import Relay
from tests.peers.short_windows import short_windows
from tests.peers.system import wait_until

# How much longer than a minute the stretch is in which no more than the limit begins: MAIL takes different times to
# arrive, in a short minute as in a real one. Of what that leaves nine tenths are used at least.
MARGIN, LEAST = 1.0, 0.9


@contextmanager
def provider(**limits: Any) -> Iterator[Provider]:
    with provider_server(Provider(**limits)) as server:
        yield server


def start_in(minute: float, start_relay: StartRelay, channels: Mapping[str, Any], keys: Mapping[str, Any]) -> Relay:
    """Start a relay whose minute has so many seconds."""
    relay = start_relay(channels, keys, starts=False)
    relay.windows = short_windows(minute=0 if minute == MINUTE else minute)
    relay.start()
    return relay


def submit(relay: Relay, count: int, sender: str = SUPPORT, to: str = "you") -> list[str]:
    """Send some messages over one connection, one after the other, and return the last replies."""
    with relay.connect() as client:
        return [client.submit(sender, f"{to}{number}@customer.example", BODY) for number in range(count)]


def limit_of(taken: tuple[Taken, ...], minute: float = MINUTE) -> float:
    """How many messages a minute began, from the first to the last."""
    moments = sorted(message.at for message in taken)
    return (len(moments) - 1) * minute / (moments[-1] - moments[0])


def submit_many(relay: Relay, count: int) -> None:
    """Send so many messages by twenty clients."""
    with ThreadPoolExecutor(20) as clients:
        sent = list(clients.map(lambda number: submit(relay, count // 20, to=f"you{number}-"), range(20)))
    assert all(reply.startswith("250 ") for replies in sent for reply in replies)


def _are_paced(relay: Relay, limit: int) -> bool:
    """Whether all that wait say that they wait for the minute, but those on their way."""
    waiting = relay.ask("queue", "list")
    said = f"waits for acmejets/{SUPPORT}: {limit} messages a minute, next in "
    on_their_way = [one for one in waiting if not str(one["reason"]).startswith(said)]
    return len(on_their_way) <= 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("minute", "most", "day"), [(MINUTE / 10, 60, 160), pytest.param(MINUTE, 360, 500, marks=pytest.mark.long)]
)
def test_messages_go_at_the_pace_of_the_provider_up_to_the_end_of_the_day(
    minute: float, most: int, day: int, start_relay: StartRelay
) -> None:
    with provider(connections=3, per_minute=most, per_day=day, minute=minute) as server:
        limits: dict[str, Any] = {"max_connections": 3, "messages_per_minute": most, "recipients_per_day": day}
        relay = start_in(minute, start_relay, directory(server.port, **limits), settings("auto"))
        submit_many(relay, day)
        server.wait_for(day, 180)
        counts = windows(server.taken, minute)
        assert server.refusals == []
        assert max(counts) <= most
        assert median(counts) >= LEAST * most * minute / (minute + MARGIN)
        assert limit_of(server.taken, minute) >= LEAST * most * minute / (minute + MARGIN)
        assert len({message.recipients for message in server.taken}) == day
        assert submit(relay, 1)[0].startswith("250 2.0.0 Ok: queued as ")
        (waiting,) = relay.ask("queue", "list")
        assert waiting["reason"].startswith(f"waits for acmejets/{SUPPORT}: {day} recipients a day, next at ")
        assert waiting["next_attempt"] > waiting["created"]


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize("minute", [MINUTE / 10, pytest.param(MINUTE, marks=pytest.mark.long)])
def test_of_many_messages_thirty_go_each_minute(minute: float, start_relay: StartRelay) -> None:
    """What Microsoft 365 allows an account; three of its minutes are looked at, and what waits says why."""
    with provider(connections=3, per_minute=30, per_day=500, minute=minute) as server:
        limits: dict[str, Any] = {"max_connections": 3, "messages_per_minute": 30, "recipients_per_day": 500}
        relay = start_in(minute, start_relay, directory(server.port, **limits), settings("auto"))
        submit_many(relay, 120)
        wait_until(lambda: _are_paced(relay, 30), "what waits to say why")
        server.wait_for(91, 300)
        counts = windows(server.taken, minute)
        assert server.refusals == []
        assert max(counts) <= 30
        assert median(counts) >= LEAST * 30 * minute / (minute + MARGIN)
        assert LEAST * 30 * minute / (minute + MARGIN) <= limit_of(server.taken, minute) <= 30.5  # two go at once


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", [3.0, pytest.param(30.0, marks=pytest.mark.long)])
def test_accounts_that_are_asked_for_a_slower_pace_pause_and_recover(first: float, start_relay: StartRelay) -> None:
    """Each of four accounts is told so in other words; `first`: the pause after that."""
    words = {
        "support": "421 4.7.0 Try again later, closing connection",
        "billing": "432 4.3.2 Concurrent connections limit exceeded",
        "sales": "454 Throttling failure: Maximum sending rate exceeded",
        "desk": "450 4.7.1 Slow down",
    }
    with provider(connections=4) as server:
        relay = start_relay(
            directory(server.port, tuple(words), max_connections=4), settings("auto", "2s"), starts=False
        )
        relay.windows = short_windows(slow=first)
        relay.start()
        asked = {}
        for name, said in words.items():
            server.moods.append(said)
            asked[f"{name}@acmejets.example"] = time.monotonic()
            replies = submit(relay, 4, f"{name}@acmejets.example")
            assert all(reply.startswith("250 2.0.0 Ok: queued as ") for reply in replies), said
            accounts = {one["profiles"][0]: one for one in relay.ask("account", "list") if one["profiles"]}
            account = next(one for profile, one in accounts.items() if name in profile)
            expected = ("slowed", str(Reply.of_upstream(int(said[:3]), said[4:])))
            assert (account["state"], account["reason"]) == expected, said
            assert "its server asks for a slower pace, next in " in relay.command("queue", "list").out, said
        server.wait_for(16, 120)
        for login, moment in asked.items():
            began = min(message.at for message in server.taken if message.login == login)
            assert began - moment >= first, f"{login}: not before the pause is over"
        assert sorted(server.refusals) == sorted(words.values()), "each asked once"

        def are_well() -> bool:
            for name in words:
                submit(relay, 1, f"{name}@acmejets.example")
            return {one["state"] for one in relay.ask("account", "list")} == {"ok"}

        wait_until(are_well, "accounts that are well again", 60)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_relay_that_is_killed_does_not_begin_its_minute_or_day_anew(start_relay: StartRelay) -> None:
    """With a real minute; in short ones it goes through more (`test_limits_over_faults`)."""
    with provider(connections=3, per_minute=40, per_day=46) as server:
        limits: dict[str, Any] = {"max_connections": 3, "messages_per_minute": 40, "recipients_per_day": 46}
        relay = start_relay(directory(server.port, **limits), settings("queued"))
        submit(relay, 55)
        for count, end in ((10, signal.SIGKILL), (20, signal.SIGTERM), (30, signal.SIGKILL)):
            server.wait_for(count, 60)
            relay.signal(end)
            assert relay.process is not None
            relay.process.wait(30)
            relay.start()
        server.wait_for(46 - 2 * 3, 120)  # what was under way at a kill may count, and not have left
        wait_until(lambda: "recipients a day" in relay.ask("queue", "list")[-1]["reason"], "the end of the budget", 30)
        assert server.refusals == []
        assert max(windows(server.taken), default=0) <= 40
        assert len(relay.ask("queue", "list")) >= 55 - 46


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("minute", [MINUTE / 10, pytest.param(MINUTE, marks=pytest.mark.long)])
def test_accounts_that_share_limits_keep_them_together_and_each_has_its_turn(
    minute: float, start_relay: StartRelay
) -> None:
    names = ("support", "billing", "sales")
    with provider(connections=3, per_minute=30, is_shared=True, minute=minute) as server:
        limits: dict[str, Any] = {"max_connections": 3, "messages_per_minute": 30, "shared_limits": True}
        relay = start_in(minute, start_relay, directory(server.port, names, **limits), settings("queued"))
        for name, count in zip(names, (24, 5, 5), strict=True):
            submit(relay, count, f"{name}@acmejets.example")
        reasons = {waiting["reason"] for waiting in relay.ask("queue", "list")}
        assert any(reason.startswith("waits for acmejets: 30 messages a minute, next in ") for reason in reasons)
        server.wait_for(34, 150)
        assert server.refusals == []
        assert max(windows(server.taken, minute)) <= 30
        logins = [message.login for message in server.taken]
        assert logins[20:] == [SUPPORT] * 14  # the others did not wait behind the twenty-four


def test_more_recipients_than_one_transaction_takes_go_in_several(start_relay: StartRelay) -> None:
    with provider(per_message=10) as server:
        relay = start_relay(directory(server.port, recipients_per_message=10), settings("auto"))
        recipients = [f"you{number}@customer.example" for number in range(25)]
        with relay.connect() as client:
            client.envelope(SUPPORT, *recipients)
            client.say("DATA")
            client.send(BODY + b".\r\n")
            assert client.reply().startswith("250 2.0.0 Ok: queued as ")
        server.wait_for(3, 20)
        assert [len(message.recipients) for message in server.taken] == [10, 10, 5]
        assert sorted(sum((message.recipients for message in server.taken), ())) == sorted(recipients)
        assert server.refusals == []
        wait_until(lambda: relay.ask("queue", "list") == [], "the empty queue")


def test_direct_never_splits_a_message(start_relay: StartRelay) -> None:
    with provider(per_message=2) as server:
        relay = start_relay(directory(server.port, recipients_per_message=2), settings("direct"))
        with relay.connect() as client:
            client.envelope(SUPPORT, *(f"you{number}@customer.example" for number in range(3)))
            client.say("DATA")
            client.send(BODY + b".\r\n")
            said = "The message has 3 recipients, and its mail server takes 2; send it to fewer at a time"
            assert client.reply() == f"554 5.5.3 {said}"
        assert server.taken == ()


def test_a_message_with_more_recipients_than_a_day_takes_goes_as_far_as_the_day_does(start_relay: StartRelay) -> None:
    with provider(per_day=3) as server:
        relay = start_relay(directory(server.port, recipients_per_day=3), settings("auto"))
        with relay.connect() as client:
            client.envelope(SUPPORT, *(f"you{number}@customer.example" for number in range(5)))
            client.say("DATA")
            client.send(BODY + b".\r\n")
            assert client.reply().startswith("250 2.0.0 Ok: queued as ")
        server.wait_for(1, 20)
        assert len(server.taken[0].recipients) == 3
        wait_until(lambda: "3 recipients a day" in relay.ask("queue", "list")[0]["reason"], "the reason", 10)
        (waiting,) = relay.ask("queue", "list")
        assert sorted(each["state"] for each in waiting["recipients"]) == ["delivered"] * 3 + ["queued"] * 2
        assert server.refusals == []


def test_direct_is_told_to_come_back_later(start_relay: StartRelay) -> None:
    with provider(per_day=1) as server:
        relay = start_relay(directory(server.port, recipients_per_day=1), settings("direct"))
        assert submit(relay, 1)[0].startswith("250 2.0.0 Ok: delivered via acmejets: ")
        said = "The sending limit of this account is used up for now; please try again later"
        assert submit(relay, 1) == [f"451 4.7.0 {said}"]
        assert server.refusals == []


def test_the_doctor_keeps_to_the_connections_that_accounts_share(start_relay: StartRelay) -> None:
    names = tuple(f"agent{number}" for number in range(12))
    with provider(connections=2, is_shared=True) as server:
        relay = start_relay(directory(server.port, names, max_connections=2, shared_limits=True))
        done = relay.command("doctor", "--json")
        logins = [one for one in json.loads(done.out)["findings"] if one["check"] == "login"]
        assert [one["level"] for one in logins] == ["good"] * len(names)
        assert server.refusals == []
