"""The log: its vocabulary is used and nothing else is, and no line takes more than one line."""

import ast
import inspect
import io
import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from relay import log
from relay.system.log_writer import LogWriter

PACKAGE = Path(log.__file__).parent
# Issue 3 names the first ten; the rest is about the relay itself.
VOCABULARY = {
    *("accepted", "routed", "attempted", "delivered", "deferred", "failed", "held", "released", "refused", "changed"),
    *("queued", "returned", "overtaken", "started", "stopped", "warned", "broken", "dropped", "clock_set"),
}
NO_EVENTS = {"configure", "is_detailed", "print_behind", "dropped_lines", "flush", "later"}
# The log tells it by itself.
BY_ITSELF = {"dropped"}


@pytest.fixture
def lines() -> io.StringIO:
    """What the log writes at debug."""
    stream = io.StringIO()
    log.configure("json", "debug", stream)
    return stream


def _events() -> set[str]:
    functions = inspect.getmembers(log, inspect.isfunction)
    return {name for name, function in functions if function.__module__ == log.__name__ and name[0] != "_"} - NO_EVENTS


@cache
def _uses() -> list[tuple[Path, str]]:
    """Every `log.NAME` in the package, as a call or in a table."""
    return [
        (path, node.attr)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "log"
    ]


def test_the_vocabulary_is_this() -> None:
    assert _events() == VOCABULARY


def test_the_page_tells_of_each_event_and_of_no_other() -> None:
    page = (PACKAGE.parent / "docs/monitoring.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| (?:debug|info|warning|error) \|", page, re.MULTILINE)
    assert {event for row in rows for event in re.findall(r"`(\w+)`", row)} == VOCABULARY | {"library"}


def test_every_event_is_told_somewhere() -> None:
    assert VOCABULARY - BY_ITSELF - {name for _, name in _uses()} == set()


def test_nobody_writes_to_the_log_but_by_the_vocabulary() -> None:
    lines = [
        f"{path}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "log.py"
        for line in path.read_text().splitlines()
        # Silencing a library is no writing.
        if "structlog" in line or ("getLogger" in line and ".setLevel(" not in line)
    ]
    assert lines == []


def test_the_door_tells_its_refusals_by_one_function() -> None:
    direct = [path for path, name in _uses() if name == "refused" and path.parent.name == "listener"]
    assert {path.name for path in direct} <= {"events.py"}


def test_a_line_is_one_json_object_with_its_event_level_and_time(lines: io.StringIO) -> None:
    log.refused(client="192.0.2.1", at="MAIL", reply="550 5.7.1 forged\nline\x1b[31m\u2028", login=None)
    (line,) = lines.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    time = found.pop("time")
    assert time.endswith("Z")
    assert found == {
        "event": "refused",
        "level": "info",
        "client": "192.0.2.1",
        "at": "MAIL",
        "reply": "550 5.7.1 forged\nline\x1b[31m\u2028",
    }


def test_an_exception_goes_along_in_the_same_line(lines: io.StringIO) -> None:
    try:
        raise KeyError("lost")
    except KeyError:
        log.broken("a command could not be answered", exc_info=True)
    (line,) = lines.getvalue().splitlines()
    assert "KeyError: 'lost'" in json.loads(line)["exception"]


@pytest.mark.parametrize(("level", "is_detailed"), [("debug", True), ("info", False), ("warning", False)])
def test_steps_are_told_at_debug_alone(level: str, is_detailed: bool, lines: io.StringIO) -> None:
    log.configure("json", level, lines)
    assert log.is_detailed() is is_detailed
    for step in (log.accepted, log.routed, log.attempted):
        step(id="1")
    assert len(lines.getvalue().splitlines()) == (3 if is_detailed else 0)


@pytest.mark.parametrize("level", ["debug", "info"])
@pytest.mark.parametrize("library", ["mail.log", "asyncio", "sqlalchemy.engine", "uvicorn.error", "alembic"])
def test_libraries_are_heard_when_they_warn_and_not_before(library: str, level: str, lines: io.StringIO) -> None:
    log.configure("json", level, lines)
    logger = logging.getLogger(library)
    logger.setLevel(logging.NOTSET)  # the demo's upstream silences one in this process
    logger.debug("AUTH PLAIN c2VjcmV0")
    logger.info("a connection")
    assert lines.getvalue() == ""
    logger.warning("something is odd")
    found = json.loads(lines.getvalue())
    assert (found["event"], found["logger"], found["message"]) == ("library", library, "something is odd")


HOSTILE = {
    "line ends": "x\r\n2026-11-25T00:00:00Z [info     ] delivered    id=1",
    "an order to the terminal": "x\x1b[2J\x1b]0;title\x07\x9b31m",
    "other line ends": "x\x85\x0b\x0c\x1c\u2028\u2029y",
    "a priority": "x\n<0>kernel: gone",
    "a text that runs backwards": "x\u202e\u2066y",
    "a quote": 'x", "event": "delivered", "id": "1',
    "half a character": "x\udc80\ud800",
    "nothing that ends": "x" * 100_000,
    "long in another script": "\U0001f4e7" * 50_000,
    "long and full of orders": "\x07" * 50_000,
}


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_value_makes_a_line_of_its_own(form: log.Format, said: str, lines: io.StringIO) -> None:
    log.configure(form, "debug", lines)
    log.refused(client="192.0.2.1", at="MAIL", login=said, recipients=[said] * 1000)
    log.delivered(id="2")
    as_bytes = lines.getvalue().encode(errors="backslashreplace")  # as stderr does
    first, second, *others = as_bytes.decode().removesuffix("\n").split("\n")
    assert others == []
    # As readers of logs split: at everything that ends a line anywhere.
    assert first.splitlines() == [first]
    assert first.isprintable()
    assert len(first.encode()) < 48 * 1024, "journald cuts it there"
    if form == "json":
        assert json.loads(first)["event"] == "refused"
        assert json.loads(second)["event"] == "delivered"
    else:
        assert "refused" in first
        assert second.endswith("id=2")


def test_a_line_that_is_shortened_keeps_how_its_values_begin_and_end(lines: io.StringIO) -> None:
    recipients = [f"{number}@customer.example" for number in range(1000)]
    log.delivered(id="1", recipients=recipients, reply="250 " + "x" * 5000 + " end")
    (line,) = lines.getvalue().splitlines()
    found = json.loads(line)
    assert found["recipients"] == [*recipients[:30], "… 970 more"]
    assert found["reply"].startswith("250 xxx")
    assert found["reply"].endswith("xxx end")


def test_a_line_of_a_hundred_recipients_is_whole(lines: io.StringIO) -> None:
    recipients = [f"a-rather-long-name-{number}@customer.example" for number in range(100)]
    log.delivered(id="1", recipients=recipients)
    assert json.loads(lines.getvalue())["recipients"] == recipients


def test_the_lines_of_an_exception_are_set_in_on_a_console(lines: io.StringIO) -> None:
    log.configure("console", "info", lines)
    try:
        raise ValueError("said\n2026-11-25T00:00:00Z [info     ] delivered id=1\x1b[2J")
    except ValueError:
        log.broken("a command could not be answered", exc_info=True)
    first, *rest = lines.getvalue().splitlines()
    assert "broken" in first
    assert rest
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_journal_is_told_how_much_a_line_matters(
    form: log.Format, lines: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        found = (tmp_path / "journal").stat()
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        log.configure(form, "debug", stream)
        log.routed(id="1")
        log.delivered(id="1")
        log.deferred(id="2")
        log.broken("the disk is full")
        stream.seek(0)
        told = stream.read().splitlines()
        assert [line[:3] for line in told] == ["<7>", "<6>", "<4>", "<3>"]
        # Another stream than systemd's, such as a file that a unit names, is given none.
        log.configure(form, "debug", lines)
        log.delivered(id="1")
    assert not lines.getvalue().startswith("<")


@pytest.mark.parametrize("value", ["", "1", "1:", ":", "one:two", "1:2:3"])
def test_what_no_systemd_says_of_the_journal_is_no_journal(
    value: str, lines: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", value)
    with (tmp_path / "file").open("w+") as stream:
        log.configure("json", "debug", stream)
        log.delivered(id="1")
        stream.seek(0)
        assert stream.read().startswith("{")
    log.configure("json", "debug", lines)


def _facts(of: tuple[str, tuple[str, ...]]) -> dict[str, Any]:
    return {"id": of[0], "recipients": list(of[1]), "upstream": None}


@pytest.mark.parametrize("is_behind", [True, False])
@pytest.mark.parametrize("event", log._LEVELS)
def test_a_line_that_is_made_by_the_thread_is_the_same(
    event: Callable[..., None], is_behind: bool, lines: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ("x\u2028y\x7f", ("a@b.example",) * 1000)
    if is_behind:
        with (tmp_path / "log").open("w") as file:
            monkeypatch.setattr(log._Output, "behind", LogWriter(file.fileno(), str))
            log.later(event, _facts, said, 100)
            assert log._Output.behind is not None
            assert log._Output.behind.flush(10)
        told = (tmp_path / "log").read_text()
    else:
        log.later(event, _facts, said, 100)
        told = lines.getvalue()
    event(**_facts(said))
    (line,), expected = told.splitlines(), json.loads(lines.getvalue().splitlines()[-1])
    found = json.loads(line)
    assert len(line) <= 12_000
    assert found.pop("time") <= expected.pop("time")
    assert found == expected
    assert found["event"] == event.__name__


def test_a_line_that_is_made_by_the_thread_has_the_time_of_what_it_tells(
    lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Kept:
        def write_later(self, line: Any, _: int) -> None:
            made.append(line)

    monkeypatch.setattr(log._Output, "behind", Kept())
    log.later(log.delivered, _facts, ("1", ()), 100)
    before = datetime.now(UTC).isoformat()
    make, *facts = made[0]
    assert json.loads(make(*facts))["time"][:-1] < before[:-6]
    assert lines.getvalue() == ""


def _not_to_be_called(_: None) -> dict[str, Any]:
    raise AssertionError


def test_what_is_below_the_level_is_not_made_at_all(lines: io.StringIO) -> None:
    log.configure("json", "warning", lines)
    log.later(log.delivered, _not_to_be_called, None, 100)
    assert lines.getvalue() == ""
