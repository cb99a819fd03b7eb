"""directory.toml edited while the relay runs."""

import signal
from functools import partial
from typing import Any

from relay.directory import live
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until

# What is promised of an edit by hand, and what a busy machine adds; SIGHUP does it at once.
_BY_HAND = 2.0 + 3.0


def with_channels(directory: dict[str, Any], *names: str) -> dict[str, Any]:
    channels = {name: {"address": f"{name}@acmejets.example"} for name in names}
    return {**directory, "channels": {**directory["channels"], **channels}}


def accepts(relay: Relay, sender: str) -> bool:
    with relay.connect() as client:
        return client.envelope(sender)[0].startswith("250")


def test_an_edit_reaches_a_session_that_is_open(start_relay: StartRelay, recorder: Recorder) -> None:
    directory = one_channel(open_server(recorder.port))
    relay = start_relay(directory)
    with relay.connect() as client:
        assert client.envelope("sales@acmejets.example") == [
            "550 5.7.1 <sales@acmejets.example>: no channel or agent sends from this address"
        ]
        relay.write_directory(with_channels(directory, "sales"))
        wait_until(lambda: accepts(relay, "sales@acmejets.example"), "the new channel", _BY_HAND)
        assert client.submit("sales@acmejets.example", "you@customer.example", b"Subject: x\r\n\r\nx\r\n").startswith(
            "250"
        )
    assert len(recorder.messages) == 1


def test_a_bad_edit_keeps_the_old_directory_and_says_so(start_relay: StartRelay, recorder: Recorder) -> None:
    directory = one_channel(open_server(recorder.port))
    relay = start_relay(directory)
    broken = with_channels(directory, "sales")
    broken["channels"]["sales"]["server"] = "acmejet"
    relay.write_directory(broken)

    faults = wait_until(lambda: relay.ask("status")["directory"]["faults"], "the fault in the status")
    assert "channels.sales.server" in str(faults)
    assert "did you mean 'acmejets'?" in str(faults)
    assert relay.ask("status")["directory"]["ok"] is False
    assert "did you mean 'acmejets'?" in relay.log
    assert accepts(relay, "support@acmejets.example")
    assert not accepts(relay, "sales@acmejets.example")

    checked = relay.command("check")
    assert checked.status == 1
    assert "did you mean 'acmejets'?" in checked.text

    relay.write_directory_text("default_server = \n")
    wait_until(lambda: "acmejet'" not in str(relay.ask("status")["directory"]["faults"]), "the second fault")
    assert accepts(relay, "support@acmejets.example")

    relay.write_directory(with_channels(directory, "sales"))
    wait_until(lambda: relay.ask("status")["directory"]["ok"], "a good directory in the status")
    assert accepts(relay, "sales@acmejets.example")


def look_never() -> None:
    """In the relay's process: it looks at its directory only when it is told to."""
    live._POLL_SECONDS = 3600.0


def test_a_hangup_signal_reads_the_directory_at_once(start_relay: StartRelay, recorder: Recorder) -> None:
    directory = one_channel(open_server(recorder.port))
    relay = start_relay(directory, starts=False)
    relay.fork(f"{__name__}:look_never")
    wait_until(relay.greets, "the greeting")
    names: list[str] = []
    for name in ("sales", "billing"):
        names.append(name)
        relay.write_directory(with_channels(directory, *names))
        relay.signal(signal.SIGHUP)
        wait_until(partial(accepts, relay, f"{name}@acmejets.example"), f"the channel {name}")


def test_a_command_takes_effect_at_once_and_refuses_what_would_be_a_fault(
    start_relay: StartRelay, recorder: Recorder
) -> None:
    directory = one_channel(open_server(recorder.port))
    directory["servers"]["house"] = open_server(recorder.port, internal=True)
    relay = start_relay(directory)
    jane = ("agent", "add", "jane", "--address", "jane@acmejets.example", "--server", "house")
    before = relay.directory_file.read_text()
    refused = relay.command(*jane, "--override")
    assert refused.status == 1
    assert "internal" in refused.text
    assert relay.directory_file.read_text() == before

    done = relay.command(*jane)
    assert done.status == 0, done.text
    assert accepts(relay, "jane@acmejets.example")
    done = relay.command("agent", "remove", "jane")
    assert done.status == 0, done.text
    assert not accepts(relay, "jane@acmejets.example")
