"""The search for canaries finds one in every form and place: a search that finds nothing proves nothing by itself."""

import json
import os
import quopri
import signal
import sqlite3
import subprocess
import sys
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tests.peers.canaries import MARK, canary, leaking_files, leaks_in, leaks_of_process, plain_canary
from tests.peers.fixtures import StartRelay
from tests.peers.relay import one_channel, open_server
from tests.peers.rows import each_row
from tests.peers.system import free_port, wait_until

PASSWORD = canary("support")
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda secret: secret,
    "hex": lambda secret: secret.hex().encode(),
    "HEX": lambda secret: secret.hex().upper().encode(),
    "base64, AUTH LOGIN": b64encode,
    "base64, AUTH PLAIN": lambda secret: b64encode(b"\0support\0" + secret),
    "base64 behind one octet": lambda secret: b64encode(b"x" + secret),
    "base64 behind two": lambda secret: b64encode(b"xy" + secret),
    "base64 in lines": lambda secret: b"\r\n".join(b64encode(secret)[at : at + 10] for at in range(0, 60, 10)),
    "base64 for URLs": urlsafe_b64encode,
    "base64 taken for a verb": lambda secret: b64encode(secret).upper()[:16],
    "URL": lambda secret: quote(secret).encode(),
    "URL, every octet that may be": lambda secret: quote_plus(secret, safe="").encode(),
    "JSON": lambda secret: json.dumps(secret.decode()).encode(),
    "repr": lambda secret: repr(secret).encode(),
    "quoted-printable": lambda secret: quopri.encodestring(b"x" * 70 + secret),
    "folded": lambda secret: secret[:5] + b"\r\n\t" + secret[5:],
    "utf-16": lambda secret: secret.decode().encode("utf-16"),
}


@each_row("name", ENCODINGS)
@each_row("password", [PASSWORD, plain_canary("support")])
def test_a_canary_is_found_in_every_form(password: str, name: str) -> None:
    assert leaks_in(b"before " + ENCODINGS[name](password.encode()) + b" behind")


@pytest.mark.parametrize("text", ["", "Password: ********", "kanarie", canary("x").removeprefix(MARK)])
def test_other_text_is_no_canary(text: str) -> None:
    assert leaks_in(text.encode()) == []


def test_a_canary_is_found_in_files_but_not_in_those_left_out(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "core").write_bytes(b"\0" * 3_000_000 + PASSWORD.encode())
    (tmp_path / "directory.toml").write_text(PASSWORD)
    assert leaking_files(tmp_path, but=["directory.toml"]) == [f"{below / 'core'}: plain"]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_canary_is_found_in_a_database_and_its_log(mode: str, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "relay.db")
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("CREATE TABLE notes (words TEXT)")
    connection.execute("INSERT INTO notes VALUES (?)", [PASSWORD])
    connection.commit()
    assert leaking_files(tmp_path)
    connection.close()


@pytest.mark.parametrize("place", ["argument", "environment"])
def test_a_canary_is_found_in_a_process(place: str) -> None:
    argv = [sys.executable, "-c", "input()", *([PASSWORD] if place == "argument" else [])]
    environment = {**os.environ, **({"SECRET": PASSWORD} if place == "environment" else {})}
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, env=environment)
    try:
        # Between fork and exec it is still a copy of this one.
        name = Path(f"/proc/{process.pid}/cmdline")
        wait_until(lambda: b"input()" in name.read_bytes(), "its start")
        assert leaks_of_process(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize("place", ["log", "state", "command"])
def test_a_relay_that_told_a_canary_fails_its_test(place: str, start_relay: StartRelay) -> None:
    relay = start_relay(one_channel(open_server(free_port())), starts=False)
    if place == "command":
        with pytest.raises(AssertionError, match="plain"):
            relay.command("channel", "show", PASSWORD)
        return
    file = relay.log_file if place == "log" else relay.state_dir / "left.behind"
    file.write_text(f"the password is {PASSWORD}\n")
    with pytest.raises(AssertionError, match=f"{file.name}: plain"):
        relay.check_leaks()
    file.unlink()
