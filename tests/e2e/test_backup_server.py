"""A backup in the real process: the first server stops and comes back, and a relay is killed while the second has it.

Each message arrives once, at one of the two; the log, the status and the history say by which server it went.
"""

from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest

from tests.e2e.ledger import Ledger, arrivals
from tests.e2e.queued import settings, waiting
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, open_server
from tests.peers.short_windows import Windows
from tests.peers.system import wait_until

# A minute of two seconds, and probes as often in it.
_RULE = "relay.delivery.backup_server"
WINDOWS = Windows({f"{_RULE}._AWAY_AFTER": 2.0, f"{_RULE}._SUSPECT_EVERY": 0.6, f"{_RULE}._AWAY_EVERY": 1.0})


def directory(first: int, second: int) -> dict[str, Any]:
    return {
        "default_server": "main",
        "servers": {"main": open_server(first, backup="second"), "second": open_server(second)},
        "channels": {"support": {"address": "support@acmejets.example"}},
    }


def taken_over(relay: Relay) -> dict[str, str]:
    return {one["server"]: one["backup"] for one in relay.ask("status")["unreached"]}


def journey(relay: Relay, name: str) -> list[str]:
    """Return the servers of a message's attempts; none while the history is not written."""
    found = relay.ask("messages", "list", "--to", f"{name}@customer.example")
    attempts = [one for message in found for one in relay.ask("messages", "show", message["id"])["attempts"]]
    return [one["account"].partition("/")[0] for one in attempts]


@pytest.mark.slow
def test_mail_goes_by_the_second_server_until_the_first_is_back(start_relay: StartRelay) -> None:
    ledger, heard = Ledger(), list[Recorder]()
    with recorder_server() as second, ExitStack() as stack:
        first = stack.enter_context(recorder_server())
        port = first.port
        relay = start_relay(directory(port, second.port), settings("auto"), starts=False)
        relay.windows = WINDOWS
        relay.start()
        assert "delivered via main" in ledger.submit(relay, "before")
        heard.append(first)
        first.cut()
        stack.close()

        assert "queued as" in ledger.submit(relay, "stranded")
        wait_until(lambda: taken_over(relay) == {"main": "second"}, "the backup", 30)
        wait_until(lambda: not waiting(relay), "what had waited", 30)
        assert "delivered via second" in ledger.submit(relay, "meanwhile")
        (shown,) = (one for one in relay.ask("server", "list") if one["name"] == "main")
        assert shown["taken_over_by"] == "second"
        assert "its mail goes by second" in relay.command("status").text
        assert set(journey(relay, "stranded")) == {"main", "second"}
        wait_until(lambda: journey(relay, "meanwhile") == ["second"], "the history", 30)
        _kill_under_way(relay, second, ledger)
        wait_until(lambda: not waiting(relay), "what the killed one had", 30)

        heard.append(stack.enter_context(recorder_server(port=port)))
        wait_until(lambda: taken_over(relay) == {}, "the first server", 30)
        assert "delivered via main" in ledger.submit(relay, "after")
        assert "its backup takes over" in relay.log
        assert "it is reached again, and has its mail from now on" in relay.log
        everywhere: Counter[str] = sum(map(arrivals, [*heard, second]), Counter())
        assert everywhere == Counter(ledger.promised), "each once, at one of them"
        assert {*arrivals(second)} == {"stranded", "meanwhile", "killed"}


def _kill_under_way(relay: Relay, second: Recorder, ledger: Ledger) -> None:
    """Kill the relay while the second server has the recipients of a message that is promised, and not its content."""
    assert relay.process is not None
    assert relay.command("channel", "set", "support", "mode=queued").status == 0
    second.hold("DATA")
    assert "queued as" in ledger.submit(relay, "killed")
    second.wait_for("DATA")
    relay.process.kill()
    relay.process.wait(30)
    second.release("DATA")
    relay.start()
    assert relay.command("channel", "set", "support", "mode=").status == 0
