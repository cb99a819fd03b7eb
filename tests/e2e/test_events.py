"""The log and the counters tell the same story of every message, whatever becomes of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.canaries import RIGHT
from tests.peers.recorder import REPLIES, Recorder, recorder_server
from tests.peers.relay import Relay, open_server, relay_process
from tests.peers.system import free_port, wait_until

MESSAGE = b"Subject: hello\r\nMessage-ID: <%s@customer.example>\r\n\r\nhello\r\n"
# What every line about a message says, whatever happened to it.
RESTLESS = ("relay_delivery", "relay_connections", "relay_loop_lag", "relay_free", "relay_queue_oldest")
KEYS = {"id", "message_id", "client", "sender", "recipients", "size", "profile", "server", "account", "seconds"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with recorder_server() as server:
        yield server


@pytest.fixture(scope="module")
def relay(upstream: Recorder) -> Iterator[Relay]:
    login = {"auth": "plain", "allow_plaintext_password": True, "username": "locked@acmejets.example"}
    directory = {
        "default_server": "well",
        "servers": {
            "well": open_server(upstream.port),
            "locked": open_server(upstream.port, **login),
            "away": open_server(free_port()),
        },
        "channels": {
            "support": {"address": "support@acmejets.example", "override": True},
            "quick": {"address": "quick@acmejets.example", "override": True, "mode": "direct"},
            "locked": {"address": "locked@acmejets.example", "server": "locked"},
            "away": {"address": "away@acmejets.example", "server": "away"},
        },
    }
    settings = {"delivery": {"mode": "auto", "retry": ["1h"], "patience": "5s", "probe": ["1h"]}}
    with relay_process(directory, settings) as relay:
        relay.set_password("server", "locked", RIGHT)
        yield relay


@pytest.fixture(autouse=True)
def _replies(upstream: Recorder) -> Iterator[None]:
    yield
    upstream.replies.clear()
    upstream.replies.update(REPLIES)


class Story:
    """What a relay tells from now on: its lines, and by how much its counters rise."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._lines = len(relay.log.splitlines())
        self._before = counters(relay)

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """The lines of an event."""
        told = [json.loads(line) for line in self._relay.log.splitlines()[self._lines :]]
        return [line for line in told if line["event"] == event or not event]

    def line(self, event: str) -> dict[str, Any]:
        """The only line of an event, once it is there."""
        wait_until(lambda: self.lines(event), f"a line {event}")
        (line,) = self.lines(event)
        return line

    @property
    def events(self) -> list[str]:
        """The events in their order."""
        return [line["event"] for line in self.lines()]

    @property
    def rises(self) -> dict[str, float]:
        """The counters that are not what they were, and by how much."""
        now = counters(self._relay)
        return {name: now[name] - self._before.get(name, 0) for name in now if now[name] != self._before.get(name, 0)}


def counters(relay: Relay) -> dict[str, float]:
    """What counts messages, and what is true now."""
    return {name: value for name, value in relay.counters().items() if not name.startswith(RESTLESS)}


def submit(relay: Relay, name: str, *recipients: str) -> str:
    with relay.connect() as client:
        client.envelope(f"{name}@acmejets.example", *(recipients or ("you@customer.example",)))
        client.say("DATA")
        client.send((MESSAGE % name.encode()) + b".\r\n")
        return client.reply()


def test_a_message_that_goes_well(relay: Relay) -> None:
    story = Story(relay)
    assert submit(relay, "support").startswith("250 ")
    accepted = story.line("accepted")
    assert story.events == ["routed", "attempted", "delivered", "accepted"]
    delivered, attempted, routed = story.line("delivered"), story.line("attempted"), story.line("routed")
    assert set(delivered) >= KEYS | {"identity", "upstream", "reply"}
    assert {line["id"] for line in story.lines()} == {delivered["id"]}
    assert {line["message_id"] for line in story.lines()} == {"<support@customer.example>"}
    assert [line["level"] for line in story.lines()] == ["debug", "debug", "info", "debug"]
    assert (delivered["profile"], delivered["server"]) == ("support", "well")
    assert delivered["account"].startswith("well/")
    assert delivered["upstream"] == attempted["upstream"] == "250 2.0.0 Ok: recorded"
    assert routed["why"]
    assert (attempted["host"], attempted["number"]) == ("127.0.0.1", 1)
    assert accepted["reply"] == delivered["reply"] == "250 2.0.0 Ok: delivered via well: Ok: recorded"
    assert story.rises == {
        "relay_submissions_total delivered well": 1,
        "relay_messages_total delivered well": 1,
        "relay_attempts_total accepted": 1,
        "relay_upstream_tls_total none": 1,
    }


def test_a_message_that_is_refused_upstream(relay: Relay, upstream: Recorder) -> None:
    upstream.replies["RCPT"] = b"550 5.1.1 No such user here\r\n"
    story = Story(relay)
    assert submit(relay, "support").startswith("550 ")
    failed = story.line("failed")
    assert set(failed) >= KEYS | {"reply", "upstream", "phase"}
    assert story.events == ["routed", "attempted", "failed"]
    assert story.rises == {
        "relay_submissions_total failed well": 1,
        "relay_messages_total failed well": 1,
        "relay_attempts_total refused": 1,
    }


def test_a_message_that_its_client_keeps(relay: Relay, upstream: Recorder) -> None:
    upstream.replies["MAIL"] = b"451 4.3.2 Later\r\n"
    story = Story(relay)
    assert submit(relay, "quick").startswith("451 ")
    assert set(story.line("deferred")) >= KEYS | {"reply", "upstream"}
    assert story.rises == {"relay_submissions_total deferred well": 1, "relay_attempts_total temporary": 1}


def test_a_message_that_waits_and_what_people_do_with_it(relay: Relay) -> None:
    story = Story(relay)
    id_ = submit(relay, "away").rpartition(" ")[2]
    queued, deferred = story.line("queued"), story.line("deferred")
    assert queued["id"] == deferred["id"] == id_
    assert set(deferred) >= KEYS | {"reason", "state", "next_attempt", "attempts"}
    assert story.line("attempted")["detail"]
    assert story.rises == {
        "relay_submissions_total queued away": 1,
        "relay_attempts_total temporary": 1,
        "relay_queue_messages queued": 1,
        "relay_servers_unreached": 1,
    }
    assert relay.command("queue", "hold", id_).status == 0
    assert set(story.line("held")) >= {"id", "message_id", "profile", "state", "reason"}
    assert story.line("held")["id"] == id_
    assert relay.command("queue", "release", id_).status == 0
    assert story.line("released")["id"] == id_
    wait_until(lambda: len(story.lines("attempted")) == 2, "the attempt after the release")
    wait_until(lambda: relay.command("queue", "remove", id_).status == 0, "the end of that attempt")
    changes = [line["operation"] for line in story.lines("changed")]
    assert changes == ["queue.hold", "queue.release", "queue.remove"]
    assert {line["who"] for line in story.lines("changed")} == {relay.state_dir.owner()}
    assert {line["id"] for line in story.lines("changed")} == {id_}


def test_an_account_that_is_held_and_released(relay: Relay, upstream: Recorder) -> None:
    upstream.replies["AUTH"] = b"535 5.7.8 Wrong password\r\n"
    story = Story(relay)
    first = submit(relay, "locked").rpartition(" ")[2]
    account = "locked/locked@acmejets.example"
    wait_until(lambda: len(story.lines("held")) == 2, "the account and its message held")
    of_account, of_message = story.lines("held")
    assert (of_account["account"], of_account["meaning"]) == (account, "login-refused")
    assert of_account["reason"] == "535 5.7.8 Wrong password"
    assert (of_message["id"], of_message["state"]) == (first, "held")
    assert set(of_message) >= KEYS | {"reason"}
    assert story.rises["relay_holds_total login-refused"] == 1
    assert story.rises["relay_accounts_held"] == 1
    assert story.rises["relay_attempts_total login-refused"] == 1
    submit(relay, "locked")
    wait_until(lambda: any(line.get("messages") == 1 for line in story.lines("held")), "the second one waits, too")

    upstream.replies["AUTH"] = REPLIES["AUTH"]
    relay.set_password("server", "locked", RIGHT + "!")
    released = story.line("released")
    assert (released["account"], released["messages"]) == (account, 2)
    wait_until(lambda: len(story.lines("delivered")) == 2, "both delivered")
    assert all(set(line) >= KEYS | {"upstream", "attempts"} for line in story.lines("delivered"))
    rises = story.rises
    assert rises["relay_messages_total delivered locked"] == 2
    assert "relay_accounts_held" not in rises
    assert "relay_queue_messages held" not in rises


@pytest.mark.parametrize(
    ("lines", "at", "reply"),
    [
        (["MAIL FROM:<nobody@acmejets.example>"], "MAIL", "5.7"),
        (["FLY"], "unknown", "5.5"),
        (["MAIL FROM:<support@acmejets.example>", "RCPT TO:<you>"], "RCPT", "5.1"),
        (["AUTH PLAIN AGFubmEAYW5uYQ=="], "AUTH", "5.7"),
    ],
    ids=["sender", "command", "recipient", "login"],
)
def test_a_refusal_at_the_door(lines: list[str], at: str, reply: str, relay: Relay) -> None:
    story = Story(relay)
    with relay.connect() as client:
        client.say("EHLO raw.test")
        said = [client.say(line) for line in lines][-1]
    refused = story.line("refused")
    assert (refused["client"], refused["at"], refused["reply"]) == ("127.0.0.1", at, said)
    logins = {"relay_logins_refused_total": 1} if at == "AUTH" else {}
    assert story.rises == {f"relay_refusals_total {reply}": 1, **logins}


def test_a_message_that_we_refuse(relay: Relay) -> None:
    story = Story(relay)
    with relay.connect() as client:
        assert client.submit("support@acmejets.example", "you@customer.example", b"no header\rat all\r\n")[:3] == "554"
    assert story.line("refused")["at"] == "end of data"
    assert story.rises == {"relay_refusals_total 5.6": 1}


def test_the_start_and_what_changed_before_it(relay: Relay) -> None:
    told = [json.loads(line) for line in relay.log.splitlines()]
    assert [line["event"] for line in told[:2]] == ["changed", "started"]
    assert told[0]["what"] == "master key"
    assert set(told[1]) >= {"listeners", "state_dir", "version"}
