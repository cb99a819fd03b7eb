"""Webhooks: a real program is told what becomes of every message, signed, in order, and at least once."""

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ledger import message, settle_all
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, open_server
from tests.peers.system import wait_until
from tests.peers.webhook_receiver import Receiver, webhook_receiver

EVERYTHING = ["queued", "delivered", "deferred", "unknown", "held", "released", "failed", "removed", "returned"]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with webhook_receiver(tmp_path) as opened:
        yield opened


def directory(port: int) -> dict[str, Any]:
    return {
        "default_server": "acmejets",
        "servers": {"acmejets": open_server(port)},
        "channels": {
            name: {"address": f"{name}@acmejets.example", "override": True, "mode": mode}
            for name, mode in (("support", "auto"), ("sales", "queued"), ("quick", "direct"))
        },
    }


def settings(*webhooks: dict[str, Any]) -> dict[str, Any]:
    delivery = {"mode": "auto", "retry": ["100ms"], "probe": ["1h"], "unknown_pause": "50ms"}
    return {"delivery": delivery, "webhook": list(webhooks), "log": {"format": "json", "level": "debug"}}


def send(relay: Relay, name: str, sender: str = "support", to: str = "ann@customer.example") -> str:
    with relay.connect() as client:
        return client.submit(f"{sender}@acmejets.example", to, message(name))


def told(receiver: Receiver, name: str, *types: str) -> None:
    wait_until(lambda: receiver.types(name) == list(types), f"{types} of {name}, told: {receiver.types(name)}", 20)


def test_a_program_is_told_of_every_message_in_each_mode(
    start_relay: StartRelay, recorder: Recorder, receiver: Receiver
) -> None:
    hook = {**receiver.table, "events": EVERYTHING}
    relay = start_relay(directory(recorder.port), settings(hook))
    assert send(relay, "one").startswith("250 2.0.0 Ok: delivered")
    told(receiver, "one", "delivered")
    (event,) = receiver.events("one")
    assert event["type"] == "message.delivered"
    data = event["data"]
    assert (data["profile"], data["sender"], data["server"], data["state"], data["attempts"]) == (
        *("support", "support@acmejets.example", "acmejets", "delivered"),
        1,
    )
    (recipient,) = data["recipients"]
    assert (recipient["address"], recipient["state"]) == ("ann@customer.example", "delivered")
    assert data["message_id"] == "<one@acmejets.example>"
    assert send(relay, "two", "quick").startswith("250 2.0.0 Ok: delivered")
    told(receiver, "two", "delivered")
    assert send(relay, "three", "sales").startswith("250 2.0.0 Ok: queued")
    told(receiver, "three", "queued", "delivered")


def test_what_is_put_off_fails_and_is_held_by_hand_is_told_in_its_order(
    start_relay: StartRelay, recorder: Recorder, receiver: Receiver
) -> None:
    relay = start_relay(directory(recorder.port), settings({**receiver.table, "events": EVERYTHING}))
    recorder.replies["."] = b"451 4.3.0 later\r\n"
    assert send(relay, "late", "sales").startswith("250")
    wait_until(lambda: receiver.types("late").count("deferred") >= 2, "two attempts that are told")
    recorder.replies["."] = b"554 5.7.1 no\r\n"
    wait_until(lambda: "failed" in receiver.types("late"), "its end")
    types = receiver.types("late")
    assert (types[0], types[-1], set(types[1:-1])) == ("queued", "failed", {"deferred"})
    last = receiver.events("late")[-1]["data"]
    assert "554 5.7.1 no" in last["recipients"][0]["reply"]
    recorder.replies["."] = b"451 4.3.0 later\r\n"
    assert send(relay, "hand", "sales").startswith("250")
    wait_until(lambda: "deferred" in receiver.types("hand"), "an attempt")
    (id_,) = [one["id"] for one in relay.ask("queue", "list") if one["sender"] == "sales@acmejets.example"]
    wait_until(lambda: relay.command("queue", "hold", id_).status == 0, "a moment between two attempts")
    assert relay.command("queue", "release", id_).status == 0
    wait_until(lambda: relay.command("queue", "remove", id_).status == 0, "a moment between two attempts")
    wait_until(lambda: "removed" in receiver.types("hand"), "its end")
    types = receiver.types("hand")
    assert types.index("held") + 1 == types.index("released")
    assert types[-1] == "removed"


def test_a_webhook_hears_of_its_profiles_and_events_alone(
    start_relay: StartRelay, recorder: Recorder, receiver: Receiver, tmp_path: Path
) -> None:
    with webhook_receiver(tmp_path) as other:
        of_sales = {**receiver.table, "profiles": ["sales"], "events": ["delivered"]}
        relay = start_relay(directory(recorder.port), settings(of_sales, other.table))
        for name, sender in (("a", "support"), ("b", "sales"), ("c", "quick")):
            assert send(relay, name, sender).startswith("250")
        wait_until(lambda: len(other.events()) == 3, "all of them")
        told(receiver, "b", "delivered")
        assert [event["data"]["subject"] for event in receiver.events()] == ["b"]
        assert [other.types(name) for name in "abc"] == [["delivered"]] * 3


def test_what_nobody_takes_waits_and_costs_mail_nothing(
    start_relay: StartRelay, recorder: Recorder, receiver: Receiver
) -> None:
    relay = start_relay(directory(recorder.port), settings(receiver.table))
    receiver.kill()
    names = [f"m{number}" for number in range(20)]
    assert all(send(relay, name).startswith("250 2.0.0 Ok: delivered") for name in names)
    wait_until(lambda: "a webhook takes no events" in relay.log, "a line about it")
    assert receiver.events() == []
    receiver.start()
    wait_until(lambda: sorted(one["data"]["subject"] for one in receiver.events()) == sorted(names), "all events", 30)
    wait_until(lambda: "takes events again" in relay.log, "a line about it")
    assert "key=1" not in relay.log, "what may be secret of its URL"


def test_what_was_delivered_while_its_client_waited_is_told_after_a_kill(
    start_relay: StartRelay, recorder: Recorder, receiver: Receiver
) -> None:
    """Its row of the history is written half a second later, and is lost with the relay."""
    relay = start_relay(directory(recorder.port), settings(receiver.table))
    for life in range(3):
        names = [f"{life}.{number}" for number in range(5)]
        assert all(send(relay, name).startswith("250 2.0.0 Ok: delivered") for name in names)
        assert relay.process is not None
        relay.process.kill()
        relay.process.wait()
        relay.start()
        for name in names:
            told(receiver, name, "delivered")
    ids = [line["id"] for line in receiver.lines()]
    assert len(ids) == len(set(ids)), "nothing was told twice"
    assert "that a kill had left" in relay.log
    relay.stop()
    assert list(relay.state_dir.glob("webhook-events*")) == [], "what is in the store stands nowhere else"


def test_what_waits_is_told_after_a_kill_of_the_relay(
    start_relay: StartRelay, recorder: Recorder, receiver: Receiver
) -> None:
    relay = start_relay(directory(recorder.port), settings(receiver.table))
    receiver.kill()
    assert send(relay, "one", "sales").startswith("250")
    wait_until(lambda: recorder.messages, "its delivery")
    wait_until(lambda: relay.counters().get("relay_queue_messages queued", 0) == 0, "its end in the store")
    assert relay.process is not None
    relay.process.kill()
    relay.process.wait()
    receiver.start()
    relay.start()
    told(receiver, "one", "delivered")


class Chaos:
    """Clients that send in both modes while relay and receiver are killed; who was told 250 is in the ledger."""

    def __init__(self, relay: Relay, receiver: Receiver, recorder: Recorder, seed: int) -> None:
        self.relay, self.receiver, self.recorder = relay, receiver, recorder
        self.chance = random.Random(seed)
        self.promised: list[str] = []

    def play(self, rounds: int) -> None:
        """Send, kill one of the two or both, and bring them back, so many times."""
        for number in range(rounds):
            self.relay.start()
            what = self.chance.choice(("relay", "receiver", "both"))
            if what != "relay":
                killer = threading.Timer(self.chance.uniform(0, 0.4), self.receiver.kill)
            else:
                killer = threading.Timer(self.chance.uniform(0.05, 0.4), self.relay.signal, (signal.SIGKILL,))
            killer.start()
            senders = [
                threading.Thread(target=self._send, args=(f"{number}.{sender}", sender))
                for sender in ("support", "sales")
            ]
            for thread in (*senders, killer):
                thread.join() if thread is killer else thread.start()
            if what == "both":
                self.relay.signal(signal.SIGKILL)
            for thread in senders:
                thread.join()
            if what != "receiver":
                assert self.relay.process is not None
                self.relay.process.wait()
            else:
                self.relay.stop()
            if what != "relay":
                self.receiver.start()
        self.relay.start()

    def _send(self, name: str, sender: str) -> None:
        with suppress(OSError, EOFError), self.relay.connect() as client:
            for number in range(15):
                one = f"{name}.{number}"
                reply = client.submit(f"{sender}@acmejets.example", "ann@customer.example", message(one))
                if reply.startswith("250 "):
                    self.promised.append(one)

    def check(self) -> None:
        """Every promised message is told of to its end, in its order."""
        settle_all(self.relay)
        wait_until(lambda: not self.untold(), f"every event; not told: {self.untold()[:5]}", 120)
        (hook,) = self.relay.ask("webhook", "list")
        assert (hook["waiting"], hook["held"]) == (0, 0)
        order = {"queued": 0, "delivered": 2}
        first: dict[str, list[str]] = {}
        seen: set[str] = set()
        for line in self.receiver.lines():  # what comes again may come late; what comes first comes in order
            if line["id"] not in seen:
                seen.add(line["id"])
                first.setdefault(line["event"]["data"]["id"], []).append(line["event"]["type"].removeprefix("message."))
        for types in first.values():
            places = [order.get(one, 1) for one in types]
            assert places == sorted(places), types

    def untold(self) -> list[str]:
        """What was promised and is not told of to its end."""
        over = {e["data"]["subject"] for e in self.receiver.events() if e["type"] == "message.delivered"}
        return [name for name in self.promised if name not in over]


@pytest.mark.parametrize(
    "rounds",
    [pytest.param(6, marks=pytest.mark.slow), pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(1500)])],
)
def test_over_kills_of_relay_and_receiver_every_event_is_told(
    start_relay: StartRelay, recorder: Recorder, receiver: Receiver, rounds: int
) -> None:
    hook = {**receiver.table, "events": EVERYTHING}
    relay = start_relay(directory(recorder.port), settings(hook), starts=False)
    chaos = Chaos(relay, receiver, recorder, rounds)
    chaos.play(rounds)
    chaos.check()
    assert len(chaos.promised) > rounds, "the clients got somewhere"
