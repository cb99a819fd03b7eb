"""Several processes that are one relay: `workers = N`, as those see it who use it and who look after it."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ledger import settle_all
from tests.e2e.load import Load
from tests.peers.canaries import RIGHT, WRONG
from tests.peers.fixtures import StartRelay
from tests.peers.provider import Provider, provider_server
from tests.peers.raw import RawClient
from tests.peers.recorder import REPLIES, Recorder
from tests.peers.relay import RELAY, Relay, one_channel, open_server
from tests.peers.short_windows import short_windows
from tests.peers.system import LOOPBACK, private_folder, wait_until
from tests.peers.systemd import listening, notify_socket, passing

pytestmark = pytest.mark.slow

SENDER, RECIPIENT = "support@acmejets.example", "you@customer.example"
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
REFUSED = b"535 5.7.8 Not with this password\r\n"
WORKERS = 3
# Each next one goes to any worker: among so many, one that gets none is no chance of this world.
MOST_CLIENTS = 200


def several(**settings: Any) -> dict[str, Any]:
    return {"workers": WORKERS, **settings}


def workers_of(relay: Relay) -> list[dict[str, Any]]:
    return list(relay.ask("status")["workers"])


def are_told(relay: Relay, clients: int) -> bool:
    """Whether all workers are there and have told the first of so many clients."""
    counts = [int(one["connections"]) for one in workers_of(relay)]
    return len(counts) == WORKERS and sum(counts) == clients


@contextmanager
def clients_of_all(relay: Relay) -> Iterator[list[RawClient]]:
    """Connect until every worker has a client."""
    with ExitStack() as stack:
        clients: list[RawClient] = []
        while len(clients) < MOST_CLIENTS:
            clients += [stack.enter_context(relay.connect()) for _ in range(2 * WORKERS)]
            wait_until(partial(are_told, relay, len(clients)), "the count of the clients")
            if all(one["connections"] for one in workers_of(relay)):
                yield clients
                return
        raise AssertionError(f"{MOST_CLIENTS} clients, and a worker has none: {workers_of(relay)}")


def test_each_worker_hands_over_and_status_and_metrics_speak_for_all(
    start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), several())
    wait_until(partial(are_told, relay, 0), "all workers")
    status = relay.ask("status")
    assert relay.process is not None
    assert status["pid"] == relay.process.pid, "to which signals are sent"
    pids = [one["pid"] for one in status["workers"]]
    assert [one["index"] for one in status["workers"]] == list(range(WORKERS))
    assert len({*pids, status["pid"]}) == WORKERS + 1
    with clients_of_all(relay) as clients:
        assert relay.ask("status")["connections"] == len(clients)
        for client in clients:
            assert client.submit(SENDER, RECIPIENT, MESSAGE).startswith("250 2.0.0 Ok: delivered")
    assert len(recorder.messages) == len(clients)
    delivered = "relay_submissions_total delivered acmejets"
    wait_until(lambda: relay.counters().get(delivered) == len(clients), "the counters of all workers")
    assert relay.counters()["relay_connections_opened_total"] >= len(clients)
    wait_until(lambda: len(relay.ask("messages", "list")) == len(clients), "the history of all")
    assert relay.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not (relay.state_dir / "submit.sock").exists()


def test_what_a_command_changes_counts_in_all_workers(start_relay: StartRelay, recorder: Recorder) -> None:
    directory = one_channel(open_server(recorder.port, auth="plain", allow_plaintext_password=True))
    relay = start_relay(directory, several())
    with clients_of_all(relay) as clients:
        without = {client.envelope(SENDER)[0][:9] for client in clients}
        assert without == {"550 5.7.8"}, "no password yet"
        relay.set_password("channel", "support", RIGHT)
        wait_until(lambda: all(client.envelope(SENDER)[0][:3] == "250" for client in clients), "the password", 20)
        added = relay.command("channel", "add", "sales", "--address", "sales@acmejets.example", "--override")
        assert added.status == 0, added.text
        wait_until(
            lambda: {client.envelope("sales@acmejets.example")[0][:9] for client in clients} == {"550 5.7.8"},
            "a channel",
            20,
        )


def test_a_refused_login_holds_the_account_in_all_workers(start_relay: StartRelay, recorder: Recorder) -> None:
    directory = one_channel(open_server(recorder.port, auth="plain", allow_plaintext_password=True))
    relay = start_relay(directory, several(delivery={"probe": ["1h"]}), starts=False)
    relay.set_password("channel", "support", WRONG)
    relay.start()
    recorder.replies["AUTH"] = REFUSED
    with clients_of_all(relay) as clients:
        first, *others = clients
        assert " queued as " in first.submit(SENDER, RECIPIENT, MESSAGE)
        wait_until(lambda: relay.ask("status")["accounts_held"], "the hold")
        for client in others:
            assert " queued as " in client.submit(SENDER, RECIPIENT, MESSAGE)
        logins = sum(command.startswith("AUTH") for talk in recorder.conversations for command in talk.commands)
        assert logins <= WORKERS, "a worker that has not heard of the hold yet may try once"
        recorder.replies["AUTH"] = REPLIES["AUTH"]
        relay.set_password("channel", "support", RIGHT)
        wait_until(lambda: len(recorder.messages) == len(clients), "what was held", 20)
        for client in clients:
            assert " delivered via " in client.submit(SENDER, RECIPIENT, MESSAGE)
    assert relay.ask("status")["accounts_held"] == []


def test_bad_logins_count_in_all_workers_together(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), several(limits={"login_failures": 4}))
    with clients_of_all(relay) as clients:
        guesses = []
        for client in clients:
            guesses.append(client.log_in("support", WRONG)[:3])
            if len(guesses) <= 4:
                time.sleep(1)  # the others hear of it a moment later
    assert guesses == ["535"] * 3 + ["421"] * (len(clients) - 3), "four guesses, whoever answers"


def test_connections_count_in_all_workers_together(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), several(limits={"connections": 40}))
    with clients_of_all(relay) as clients, ExitStack() as stack:
        for _ in range(40 - len(clients)):
            assert stack.enter_context(relay.connect()).greeting.startswith("220")
        wait_until(partial(are_told, relay, 40), "the count of the clients")
        # What the first worker knows the others know at the same moment or a little later.
        wait_until(lambda: not any(one_more(relay) for _ in range(12)), "no room in any worker", 10)


def one_more(relay: Relay) -> bool:
    """Whether one more client is let in; it leaves at once."""
    with relay.connect() as client:
        return client.greeting.startswith("220")


@pytest.mark.timeout(300)
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), several(delivery={"unknown_pause": "1s"}))
    with Load([relay.endpoint], 12) as load:
        for number in range(WORKERS):
            load.wait_for_accepted(100)
            victim = workers_of(relay)[number]["pid"]
            os.kill(victim, signal.SIGKILL)
            wait_until(partial(is_replaced, relay, victim), "another worker in its place", 30)
        load.wait_for_accepted(100)
    assert load.counts["refused"] == 0, "the doors stay open"
    wait_until(lambda: not any(relay.ask("status")["queue"].values()), "the end of the queue", 60)
    arrived = [str(message) for message in recorder.messages]
    every = " ".join(arrived)
    missing = [name for name in load.accepted if name not in every]
    assert not missing, f"{len(missing)} of {len(load.accepted)}"
    # Who had no answer when a worker was killed may be one more; what was under way then may be there twice.
    assert len(arrived) - len(load.accepted) <= WORKERS * 12


def is_replaced(relay: Relay, pid: int) -> bool:
    """Whether all places are filled again, and none by this process."""
    asked = relay.command("status", "--json")
    if asked.status != 0:  # the first worker itself is replaced
        return False
    found = [one["pid"] for one in workers_of(relay)]
    return len(found) == WORKERS and pid not in found


def test_a_worker_that_ends_before_all_serve_is_replaced(start_relay: StartRelay, recorder: Recorder) -> None:
    """What is wrong with a relay its first worker says; from then on no worker's end is that of the relay."""
    relay = start_relay(one_channel(open_server(recorder.port)), several(), starts=False)
    relay.launch(str(RELAY), *relay.serving)
    assert relay.process is not None
    children = Path(f"/proc/{relay.process.pid}/task/{relay.process.pid}/children")
    second = wait_until(lambda: children.read_text().split()[1:2], "the second worker")
    os.kill(int(second[0]), signal.SIGKILL)
    wait_until(relay.greets, "the relay's greeting")
    wait_until(lambda: len(workers_of(relay)) == WORKERS, "all workers")
    assert second[0] not in {str(worker["pid"]) for worker in workers_of(relay)}


def test_a_reload_reaches_all_workers_and_those_that_begin_later(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), several())
    relay.write_settings(several(limits={"message_size": 1000}))
    relay.signal(signal.SIGHUP)
    wait_until(lambda: sizes(relay) == {"SIZE 1000"}, "the new limit in all workers")
    assert relay.log.count('"what": "settings"') == 1
    victim = workers_of(relay)[1]["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_until(partial(is_replaced, relay, victim), "another worker in its place", 30)
    assert sizes(relay) == {"SIZE 1000"}


def sizes(relay: Relay) -> set[str]:
    """What the greetings of many connections say, which all workers have a part of."""
    found = set()
    for _ in range(20):
        with relay.connect() as client:
            found |= {line[4:] for line in client.say("EHLO raw.test").splitlines() if "SIZE" in line}
    return found


def test_a_worker_that_hangs_is_replaced(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), several(), starts=False)
    with private_folder("systemd") as folder, notify_socket(folder) as heard:
        relay.launch("env", f"NOTIFY_SOCKET={heard.address}", "WATCHDOG_USEC=4000000", str(RELAY), *relay.serving)
        _, status = heard.wait_for("READY=1")
        assert status.endswith(f"; {WORKERS} workers")
        wait_until(lambda: len(workers_of(relay)) == WORKERS, "all workers")
        victim = workers_of(relay)[1]["pid"]
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: is_replaced(relay, victim), "another worker in its place", 30)
        assert "worker 1 has said nothing for" in relay.log
        heard.wait_for("WATCHDOG=1")
        relay.signal(signal.SIGHUP)
        heard.wait_for("RELOADING=1")
        heard.wait_for("READY=1")
        assert relay.stop() == 0


def test_sockets_of_systemd_are_shared_by_all_workers(start_relay: StartRelay, recorder: Recorder) -> None:
    listener = [{"name": "lan", "address": "fd:lan"}]
    relay = start_relay(one_channel(open_server(recorder.port)), several(listener=listener), starts=False)
    with listening((LOOPBACK, relay.port)) as (sock,):
        relay.pass_fds = (sock.fileno(),)
        relay.start(*passing({"lan": sock}))
        with relay.connect() as client:
            assert client.submit(SENDER, RECIPIENT, MESSAGE).startswith("250")
        assert relay.ask("status")["listeners"][0] == f"{LOOPBACK}:{relay.port}"


def test_what_is_wrong_at_the_start_is_said_once(start_relay: StartRelay, recorder: Recorder) -> None:
    directory = one_channel(open_server(recorder.port))
    relay = start_relay(directory, several())
    second = start_relay(directory, {**several(), "listener": [{"address": f"{LOOPBACK}:{relay.port}"}]}, starts=False)
    in_use = second.command("serve")
    assert (in_use.status, in_use.text.strip()) == (
        1,
        f"{LOOPBACK}:{relay.port}: this address is in use by another program; stop that one or choose another address",
    )
    third = start_relay({"default_server": "nowhere"}, several(), starts=False)
    wrong = third.command("serve")
    assert wrong.status == 1
    assert len(re.findall("default_server", wrong.text)) == 1


def test_workers_end_where_the_supervisor_was_killed(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), several())
    wait_until(partial(are_told, relay, 0), "all workers")
    pids = [one["pid"] for one in workers_of(relay)]
    relay.signal(signal.SIGKILL)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the end of all workers", 20)
    relay.stop()
    relay.start()
    with relay.connect() as client:
        assert client.submit(SENDER, RECIPIENT, MESSAGE).startswith("250")


@pytest.mark.timeout(120)
def test_a_start_right_after_a_kill_finds_its_address_free_and_loses_nothing(
    start_relay: StartRelay, recorder: Recorder
) -> None:
    """Whose acceptance was not written down yet is the only mail that may come twice, and then with one Message-ID."""
    given = several(delivery={"mode": "queued", "unknown_pause": "1s"})
    relay = start_relay(one_channel(open_server(recorder.port)), given)
    wait_until(partial(are_told, relay, 0), "all workers")
    with Load([relay.endpoint], 8) as load:
        for _ in range(2):
            load.wait_for_accepted(40)
            workers = [Path(f"/proc/{one['pid']}/stat") for one in workers_of(relay)]
            relay.signal(signal.SIGKILL)
            relay.stop()
            relay.start()
            assert not any(_runs(stat) for stat in workers), "a worker outlived its supervisor"
        load.wait_for_accepted(40)
    settle_all(relay)
    every = " ".join(str(message) for message in recorder.messages)
    assert [name for name in load.accepted if name not in every] == []
    # One message on each of the connections of each worker may be between the server's answer and our record.
    assert len(recorder.messages) - len(load.accepted) <= 2 * 8


def _runs(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["auto", "queued"])
def test_a_restart_under_load_turns_nobody_away(mode: str, start_relay: StartRelay, recorder: Recorder) -> None:
    given = several(listener=[{"name": "lan", "address": "fd:lan"}], delivery={"mode": mode})
    relay = start_relay(one_channel(open_server(recorder.port)), given, starts=False)
    with listening((LOOPBACK, relay.port)) as (sock,):
        relay.pass_fds = (sock.fileno(),)
        start = (*passing({"lan": sock}), str(RELAY), *relay.serving)
        relay.launch(*start)
        with Load([relay.endpoint], 12) as load:
            for _ in range(2):
                load.wait_for_accepted(60)
                assert relay.stop() == 0
                relay.launch(*start)
            load.wait_for_accepted(60)
        wait_until(lambda: not any(relay.ask("status")["queue"].values()), "the end of the queue", 60)
    assert set(load.counts) <= {"accepted", "told to wait"}, load.counts
    arrived = [str(message) for message in recorder.messages]
    every = " ".join(arrived)
    assert [name for name in load.accepted if name not in every] == []
    assert len(arrived) == len(load.accepted), "each once"


def test_all_workers_together_open_no_more_connections_than_the_server_allows(start_relay: StartRelay) -> None:
    with provider_server(Provider(connections=2)) as provider:
        server = open_server(provider.port, auth="plain", allow_plaintext_password=True, max_connections=2)
        relay = start_relay(one_channel(server), several(delivery={"patience": "20s"}), starts=False)
        relay.set_password("channel", "support", RIGHT)
        relay.start()
        wait_until(partial(are_told, relay, 0), "all workers")
        with Load([relay.endpoint], 9) as load:
            load.wait_for_accepted(200)
        provider.wait_for(len(load.accepted), 60)
        assert set(load.counts) == {"accepted"}, load.counts
        assert provider.refusals == []
        assert len(provider.taken) == len(load.accepted), "each once"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("minute", "most", "day"), [(6.0, 60, 80), pytest.param(60.0, 300, 320, marks=pytest.mark.long)]
)
def test_all_workers_together_keep_to_the_minute_and_the_day_and_use_them_up(
    minute: float, most: int, day: int, start_relay: StartRelay
) -> None:
    """The provider refuses what is one too many in any minute, or in the day."""
    every = {f"you{number}@customer.example" for number in range(day + 5)}
    counting = Provider(connections=3, per_minute=most, per_day=day, minute=minute, answer_seconds=0.1)
    with provider_server(counting) as provider:
        limits: dict[str, Any] = {"messages_per_minute": most, "recipients_per_day": day, "max_connections": 3}
        server = open_server(provider.port, auth="plain", allow_plaintext_password=True, **limits)
        relay = start_relay(one_channel(server), several(delivery={"mode": "queued"}), starts=False)
        relay.windows = short_windows(minute=0 if minute == 60 else minute)
        relay.set_password("channel", "support", RIGHT)
        relay.start()
        wait_until(partial(are_told, relay, 0), "all workers")
        with clients_of_all(relay) as clients:
            for client, recipient in zip(cycle(clients), every, strict=False):
                assert client.submit(SENDER, recipient, MESSAGE).startswith("250 ")
        provider.wait_for(most, 120)
        moments = [taken.at for taken in provider.taken]
        assert minute - 20 * minute / most <= moments[most - 1] - moments[0], "spread over it"
        if minute == 60:
            assert moments[most - 1] - moments[0] <= 75, "little of it unused"
        os.kill(workers_of(relay)[1]["pid"], signal.SIGKILL)
        provider.wait_for(day - max(4, 2 * day // 100), 120)
        wait_until(partial(_is_the_day_over, relay, provider), "the end of the day", 60)
        assert provider.refusals == []
        waiting, taken = _waiting(relay), _taken(provider)
        assert {*taken, *waiting} == every
        assert len(set(taken)) == len(taken), "each once"
        # What the killed worker had under way is not known, and the provider has it or not.
        assert list(waiting.values()).count("unknown") <= 3


def _is_the_day_over(relay: Relay, provider: Provider) -> bool:
    """Whether what waits waits for nothing else than the next day, and nothing of that is under way."""
    queue = [one for one in relay.ask("queue", "list") if one["state"] != "unknown"]
    waits = all("recipients a day" in (one["reason"] or "") for one in queue)
    return waits and set(_taken(provider)).isdisjoint(_recipient(one) for one in queue)


def _waiting(relay: Relay) -> dict[str, str]:
    """The state of each message that waits, by its recipient."""
    return {_recipient(one): one["state"] for one in relay.ask("queue", "list")}


def _recipient(message: dict[str, Any]) -> str:
    return str(message["recipients"][0]["address"])


def _taken(provider: Provider) -> list[str]:
    return [taken.recipients[0] for taken in provider.taken]
