"""The default server: who follows it moves with it, and no server goes away under a profile."""

import pytest

from tests.peers.clients import Letter, python_smtplib
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, open_server

pytestmark = pytest.mark.slow

LETTER = b"Subject: hello\n\nhello\n"


def directory(old: int, new: int) -> dict[str, object]:
    return {
        "default_server": "old",
        "servers": {"old": open_server(old), "new": open_server(new)},
        "channels": {
            "follower": {"address": "follower@acmejets.example"},
            "pinned": {"address": "pinned@acmejets.example", "server": "old"},
        },
        "agents": {
            "jane": {"address": "jane@acmejets.example"},
            "joe": {"address": "joe@acmejets.example", "server": "new"},
        },
    }


def resolved(relay: Relay) -> dict[str, str]:
    entries = relay.ask("channel", "list") + relay.ask("agent", "list")
    return {entry["name"]: entry["resolved_server"] for entry in entries}


def send(relay: Relay, name: str) -> None:
    done = python_smtplib(relay.endpoint, Letter(f"{name}@acmejets.example", ("you@customer.example",), LETTER))
    assert done.status == 0, done.text + relay.last_words


def test_a_new_default_moves_those_who_follow_it_and_no_others(start_relay: StartRelay, recorder: Recorder) -> None:
    with recorder_server() as other:
        relay = start_relay(directory(old=recorder.port, new=other.port))
        assert resolved(relay) == {"follower": "old", "pinned": "old", "jane": "old", "joe": "new"}
        send(relay, "follower")
        assert (len(recorder.messages), len(other.messages)) == (1, 0)

        done = relay.command("server", "default", "new")
        assert done.status == 0, done.text
        assert resolved(relay) == {"follower": "new", "pinned": "old", "jane": "new", "joe": "new"}
        for name in ("follower", "pinned", "jane", "joe"):
            send(relay, name)
        assert (len(recorder.messages), len(other.messages)) == (2, 3)


def test_a_server_that_is_needed_cannot_be_removed(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory(old=recorder.port, new=recorder.port))
    before = relay.directory_file.read_text()
    for arguments, word in (
        (("old",), "default"),
        (("old", "--move-to", "new"), "default"),
        (("new",), "--move-to"),
        (("new", "--move-to", "nwe"), "nwe"),
        (("new", "--move-to", "new"), "new"),
    ):
        refused = relay.command("server", "remove", *arguments)
        assert refused.status == 1, arguments
        assert word in refused.text
    assert relay.directory_file.read_text() == before

    moved = relay.command("server", "remove", "new", "--move-to", "old")
    assert moved.status == 0, moved.text
    assert resolved(relay) == dict.fromkeys(("follower", "pinned", "jane", "joe"), "old")
    assert [server["name"] for server in relay.ask("server", "list")] == ["old"]


def test_the_same_holds_where_no_relay_runs(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory(old=recorder.port, new=recorder.port), starts=False)
    refused = relay.command("server", "remove", "new")
    assert refused.status == 1
    assert "--move-to" in refused.text
    moved = relay.command("server", "default", "new")
    assert moved.status == 0, moved.text
    counts = {
        server["name"]: (server["default"], server["used_by_channels"], server["used_by_agents"])
        for server in relay.ask("server", "list")
    }
    assert counts == {"old": (False, 1, 0), "new": (True, 1, 2)}, "those who follow the default count"
