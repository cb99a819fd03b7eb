"""A relay of one process at a file: what several processes or nodes need of each other is not even loaded."""

import json
import sys

from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until

SENDER, RECIPIENT = "support@acmejets.example", "you@customer.example"
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
# Writes what is loaded when the program ends, every process for itself.
_PROGRAM = """\
import atexit, json, os, sys

def tell():
    with open(os.path.join({folder!r}, f"modules.{{os.getpid()}}"), "w") as file:
        json.dump(sorted(sys.modules), file)

atexit.register(tell)
from relay.cli import main
sys.exit(main())
"""


def modules_of(relay: Relay) -> list[str]:
    """What the relay's own process had loaded when it ended."""
    assert relay.process is not None
    return list(json.loads((relay.folder / f"modules.{relay.process.pid}").read_text()))


def begin(relay: Relay) -> None:
    program = relay.folder / "serving.py"
    program.write_text(_PROGRAM.format(folder=str(relay.folder)))
    relay.launch(sys.executable, str(program), *relay.serving)
    wait_until(relay.greets, "the relay's greeting")


def test_one_process_at_a_file_loads_nothing_of_a_cluster(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), starts=False)
    begin(relay)
    with relay.connect() as client:
        assert client.submit(SENDER, RECIPIENT, MESSAGE).startswith("250 2.0.0 Ok: delivered")
    name = relay.ask("status")["node"]
    assert [row["name"] for row in relay.ask("node", "list")] == [name]
    assert relay.command("node", "drain", name).status == 0
    assert relay.ask("status")["state"] == "draining"
    with relay.connect() as client:
        assert client.greeting.startswith("421 4.3.2")
    assert relay.command("node", "drain", name, "--undo").status == 0
    with relay.connect() as client:
        assert client.greeting.startswith("220")
    assert relay.stop() == 0
    loaded = modules_of(relay)
    assert "relay.app.alone" in loaded, "this is the process that served"
    assert [module for module in loaded if module.startswith(("relay.cluster", "relay.app.clustered"))] == []


def test_a_process_of_several_loads_it(start_relay: StartRelay, recorder: Recorder) -> None:
    """The look at the modules would find it."""
    relay = start_relay(one_channel(open_server(recorder.port)), {"workers": 2}, starts=False)
    begin(relay)
    assert relay.stop() == 0
    assert "relay.cluster.supervisor" in modules_of(relay)
