"""Mail that is damaged in the store: held, said, never sent; what is beside it goes on."""

import json
import os
from contextlib import suppress

import pytest

from tests.e2e.kills import settings
from tests.e2e.ledger import Ledger, arrivals, control
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.system import free_port, wait_until

PLAIN = b"the amount is 1000 euros\r\n"
OTHER = b"the amount is 9000 euros\r\n"


@pytest.mark.slow
def test_damaged_mail_is_held_and_never_sent(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(free_port())), settings("queued"))
    ledger = Ledger()
    large = b"x" * 998 + b"\r\n"
    assert ledger.submit(relay, "small", body=b"small: " + PLAIN).startswith("250 ")
    assert ledger.submit(relay, "large", body=large * 3000 + b"large: " + PLAIN).startswith("250 ")
    assert ledger.submit(relay, "sound").startswith("250 ")
    done = relay.command("check", "--store", "--json")
    assert (done.status, json.loads(done.out)["messages"]) == (0, 3)
    assert relay.stop() == 0
    file = relay.state_dir / "relay.db"
    octets = file.read_bytes()
    for name in (b"small: ", b"large: "):
        assert octets.count(name + PLAIN) == 1
        octets = octets.replace(name + PLAIN, name + OTHER)
    with file.open("r+b") as pages:  # as a disk does that forgets
        pages.write(octets)
        os.fsync(pages.fileno())
    done = relay.command("check", "--store", "--json")  # where none runs
    assert (done.status, len(json.loads(done.out)["damaged"])) == (1, 2)
    relay.write_directory(one_channel(open_server(recorder.port)))
    relay.start()
    wait_until(lambda: arrivals(recorder)["sound"] == 1, "what is sound")
    wait_until(lambda: control(relay).status()["queue"]["held"] == 2, "the holds")
    held = list(control(relay).stream("queue.list", {"state": "held"}))
    assert {entry["reason"] for entry in held} == {
        "damaged: its content or envelope is not what came: its digest is another"
    }
    for entry in held:
        assert f"message {entry['id']} is held, and not sent" in relay.log
        done = relay.command("queue", "export", entry["id"])
        assert done.status == 1
        assert "is not message" in done.text
        control(relay).run("queue.release", {"id": entry["id"]})
    wait_until(lambda: control(relay).status()["queue"]["held"] == 2, "the holds again")
    assert relay.command("check", "--store").status == 1
    assert set(arrivals(recorder)) == {"sound"}
    with suppress(ProcessLookupError):
        assert relay.stop() == 0
