"""The program as a process: what it loads, prints and returns, where no relay is running."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from relay import __version__
from relay.cli.startup import for_sendmail
from tests.peers.system import LOOPBACK, Finished, free_port, run

BIN = Path(sys.executable).parent
# Libraries of ours and of others that take long to load, and what would load them.
HEAVY = (
    "typer",
    "pydantic",
    "asyncio",
    "email",
    "ssl",
    "idna",
    "rich",
    "tomllib",
    "sqlalchemy",
    "structlog",
    "logging",
)
SCRIPT = """
import json, sys
from relay.sendmail.program import run
status = run("relay-sendmail", ["-t", "-i"])
print(json.dumps([status, sorted(sys.modules)]))
"""


def call(*words: str, program: str = "relay-sendmail", data: bytes = b"", submit: str = "") -> Finished:
    env = {"PATH": os.defpath, "HOME": "/nonexistent", "RELAY_SUBMIT": submit or f"{LOOPBACK}:{free_port()}"}
    return run([str(BIN / program), *words], data=data, env=env)


def test_it_loads_little() -> None:
    """It is started for every mail: what it loads decides how long that takes."""
    message = b"From: jo@x.example\nTo: ann@y.example\n\nhello\n"
    env = {"RELAY_SUBMIT": f"{LOOPBACK}:{free_port()}"}
    done = run([sys.executable, "-c", SCRIPT], data=message, env=env)
    bare = run([sys.executable, "-c", "import sys; print(len(sys.modules))"], env=env)
    status, modules = json.loads(done.out)
    assert status == os.EX_TEMPFAIL
    assert [name for name in HEAVY if name in modules] == []
    assert len(modules) - int(bare.out) < 90


def seconds_of(words: list[str], data: bytes = b"") -> float:
    """The processor time of a program, at its best: what it waits for on a busy machine is not its own."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(words, data=data, env={"PATH": os.defpath, "RELAY_SUBMIT": f"{LOOPBACK}:{free_port()}"})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


@pytest.mark.parametrize("words", [["relay-sendmail"], ["relay", "sendmail"]])
def test_it_takes_at_most_120_milliseconds_more_than_python_alone(words: list[str]) -> None:
    message = b"From: jo@x.example\nTo: ann@y.example\n\nhello\n"
    bare = seconds_of([sys.executable, "-c", "pass"])
    assert seconds_of([str(BIN / words[0]), *words[1:], "-t"], message) - bare < 0.120


def test_a_message_that_nobody_takes_is_not_left_anywhere(tmp_path: Path) -> None:
    env = {"PATH": os.defpath, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    env["RELAY_SUBMIT"] = f"{LOOPBACK}:{free_port()}"
    message = b"From: jo@x.example\nTo: ann@y.example\n\n" + b"hello\n" * 500_000
    assert run([str(BIN / "relay-sendmail"), "-t"], data=message, env=env).status == os.EX_TEMPFAIL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["relay-sendmail"], ["relay", "sendmail"], ["relay", "--config", "x", "sendmail"]])
def test_its_help_is_its_own(words: list[str]) -> None:
    done = call(*words[1:], "--help", program=words[0])
    assert done.status == 0, done.text
    assert done.out.startswith("Usage: relay")
    assert "-bs" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_its_version() -> None:
    assert call("--version").out == f"relay-sendmail {__version__}\n"


@pytest.mark.parametrize("name", ["sendmail", "mailq", "newaliases"])
def test_it_works_under_the_names_of_sendmail(name: str, tmp_path: Path) -> None:
    link = tmp_path / name
    link.symlink_to(BIN / "relay-sendmail")
    done = call("--help", program=str(link))
    assert done.out.startswith(f"Usage: {name} "), done.text
    status = {"sendmail": os.EX_USAGE, "mailq": os.EX_UNAVAILABLE, "newaliases": os.EX_OK}[name]
    assert call(program=str(link)).status == status


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        ([], os.EX_USAGE, "relay-sendmail: name a recipient, or give -t\n"),
        (["-t"], os.EX_USAGE, "relay-sendmail: the header names no recipient\n"),
        (["-Z"], os.EX_USAGE, "relay-sendmail: there is no option -Z\n"),
        (["-bp"], os.EX_UNAVAILABLE, "relay queue list"),
        (["-q"], os.EX_OK, ""),
        (["jo@x.example"], os.EX_TEMPFAIL, "relay-sendmail: no relay takes mail here (127.0.0.1:"),
    ],
)
def test_it_ends_with_a_status_and_a_sentence(words: list[str], status: int, sentence: str) -> None:
    done = call(*words)
    assert (done.status, done.out) == (status, "")
    assert sentence in done.err
    assert "Traceback" not in done.err


def test_a_place_that_is_none_is_told_before_anything_is_read() -> None:
    done = call("jo@x.example", submit="nowhere")
    assert done.status == os.EX_CONFIG
    assert "RELAY_SUBMIT" in done.err


def test_who_speaks_smtp_hears_in_smtp_that_nobody_is_there() -> None:
    done = call("-bs", data=b"QUIT\r\n")
    assert done.status == os.EX_TEMPFAIL
    assert done.out.startswith("421 4.3.2 ")


@pytest.mark.parametrize(("word", "status"), [("jo@x.example", os.EX_TEMPFAIL), ("-bs", os.EX_USAGE)])
def test_standard_streams_may_be_closed(word: str, status: int) -> None:
    script = f'exec "{BIN / "relay-sendmail"}" "$@" <&- >&- 2>&-'
    env = {"PATH": os.defpath, "RELAY_SUBMIT": f"{LOOPBACK}:{free_port()}"}
    done = subprocess.run(["/bin/sh", "-c", script, "sh", word], env=env, timeout=30, check=False)
    assert done.returncode == status


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sendmail", "-t"], ["-t"]),
        (["--config", "f", "sendmail"], []),
        (["--config=f", "sendmail", "-i"], ["-i"]),
        (["queue", "list"], None),
        (["route", "sendmail"], None),
        (["--config", "sendmail"], None),
        (["--config"], None),
        ([], None),
    ],
)
def test_the_command_line_of_relay_finds_it(words: list[str], expected: list[str] | None) -> None:
    assert for_sendmail(words) == expected
