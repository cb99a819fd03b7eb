"""The log: its vocabulary is used and nothing else is, and no line takes more than one line."""

import ast
import inspect
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay import log

PACKAGE = Path(log.__file__).parent
# Issue 3 names the first ten; the rest is about the relay itself.
VOCABULARY = {
    *("accepted", "routed", "attempted", "delivered", "deferred", "failed", "held", "released", "refused", "changed"),
    *("queued", "returned", "started", "stopped", "warned", "broken"),
}
NO_EVENTS = {"configure", "is_detailed"}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the log writes at debug; the process's own log is as before afterwards."""
    monkeypatch.setattr(log, "_LINES", structlog.get_logger())
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    log.configure("json", "debug", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("relay").setLevel(logging.NOTSET)


def _events() -> set[str]:
    functions = inspect.getmembers(log, inspect.isfunction)
    return {name for name, function in functions if function.__module__ == log.__name__ and name[0] != "_"} - NO_EVENTS


def _uses() -> Iterator[tuple[Path, str]]:
    """Every `log.NAME` in the package, as a call or in a table."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "log":
                yield path, node.attr


def test_the_vocabulary_is_this() -> None:
    assert _events() == VOCABULARY


@pytest.mark.parametrize("event", sorted(VOCABULARY))
def test_every_event_is_told_somewhere(event: str) -> None:
    assert event in {name for _, name in _uses()}


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
    assert {path.name for path in direct} <= {"telling.py"}


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
