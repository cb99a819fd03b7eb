"""Rows of the table that need one test each: loops, and what the files of a relay tell others."""

import stat

from tests.hostile.house import JANE, house
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server, relay_process

SUPPORT = "support@acmejets.example"


def test_a_channel_that_leads_back_to_the_relay_ends_at_the_third_time() -> None:
    with relay_process(one_channel(open_server(1)), starts=False) as relay:
        relay.write_directory(one_channel(open_server(relay.port)))
        relay.start()
        with relay.connect() as client:
            reply = client.submit(SUPPORT, "you@customer.example", b"Subject: round\r\n\r\nx\r\n")
        assert reply.startswith("554 5.4.6 "), reply
        assert relay.ask("queue", "list") == []


def test_no_file_of_a_relay_is_for_others(recorder: Recorder) -> None:
    """Queue, history, passwords and their key, with everything that the database keeps beside itself."""
    recorder.replies["MAIL"] = b"451 4.3.0 Later\r\n"
    with house(recorder.port, {"delivery": {"mode": "auto"}}) as relay:
        with relay.connect() as client:
            assert client.submit(JANE, "you@customer.example", b"Subject: kept\r\n\r\nx\r\n").startswith("250 ")
        modes = {path: path.stat().st_mode for path in (relay.state_dir, *relay.state_dir.rglob("*"))}
    names = {path.name for path in modes}
    assert {"relay.db", "relay.db-wal", "master.key"} <= names
    # The socket for submissions is for every local user; the folder's mode says who gets there.
    wide = {path.name for path, mode in modes.items() if mode & 0o077 and not stat.S_ISSOCK(mode)}
    assert wide <= {"directory.toml"}
    assert stat.S_IMODE(modes[relay.state_dir]) == 0o700
    assert not [path for path, mode in modes.items() if path.name == "control.sock" and mode & 0o077]
