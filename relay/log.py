"""The log: how a line looks, and the vocabulary of what happens to a message (one function per event).

Lines go to stderr, JSON or console. A line never holds a secret or a message's body: the functions here take only
names, addresses, replies and times, and what a client or server said arrives cleaned (`relay.mail.reply.clean_text`).
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

# structlog loads Rich wherever it is there, for tracebacks with colours that no line of ours has: 5 MB and half of the
# time. For a moment it is not there.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402

del sys.modules["rich"]
if _rich is not None:
    sys.modules["rich"] = _rich

Format = Literal["auto", "console", "json"]
# Says what level is set, thirty times as fast as structlog does.
_OURS = logging.getLogger("relay")
# Keeps what `configure` says from the first line on: to put a logger together takes a third of what a line takes.
_LINES: Any = structlog.get_logger()
# JSON escapes control characters up to 0x1f. Readers also end lines at NEL and at Unicode's separators, and terminals
# obey all of C1.
_ENDS_AND_ORDERS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, default=str).encode


def configure(form: Format = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Set up the process's log, once at its start. `auto` is console on a terminal and JSON elsewhere."""
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    writer = structlog.WriteLogger(stream)
    is_console = form == "console" or (form == "auto" and stream.isatty())
    wrapper: Any = structlog.make_filtering_bound_logger(number) if is_console else _JsonLines
    vars(_LINES).pop("bind", None)  # what was kept from an earlier call
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="time", pad_event_to=12),
        ],
        wrapper_class=wrapper,
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    _OURS.setLevel(number)
    _adopt_standard_logging(max(number, logging.WARNING))


class _JsonLines:
    """structlog's logger for lines of JSON. A message that goes well has one, and a chain of processors costs more."""

    def __init__(self, logger: structlog.WriteLogger, **_: Any) -> None:
        self._write = logger.msg

    def log(self, level: int, event: str, **facts: Any) -> None:
        """Write one line, where this level is told. An `exc_info` becomes the words of the exception."""
        if not _OURS.isEnabledFor(level):
            return
        facts["event"], facts["level"] = event, logging.getLevelName(level).lower()
        facts["time"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        if "exc_info" in facts:
            structlog.processors.format_exc_info(None, "", facts)
        self._write(_as_json(facts))


def _as_json(facts: dict[str, Any]) -> str:
    line = _encode(facts)
    return line if line.isascii() and "\x7f" not in line else line.translate(_ENDS_AND_ORDERS)


class _Adopted(logging.Handler):
    """Hands the lines of libraries that use the standard logging module to our log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one library line; its exception, if any, goes along."""
        facts = {"logger": record.name, "message": record.getMessage(), "exc_info": record.exc_info or None}
        _tell(record.levelno, "library", facts)


def _adopt_standard_logging(level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Adopted()]
    root.setLevel(level)


# The vocabulary. Keys are the words of DESIGN section 2; a value of None is left out.


def started(**facts: Any) -> None:
    """The relay serves: its listeners and folder."""
    _info("started", facts)


def stopped(**facts: Any) -> None:
    """The relay has ended in order."""
    _info("stopped", facts)


# Steps on the way of a message are told at debug: at info a message that goes well has one line.


def is_detailed() -> bool:
    """Whether the steps are told at all. Who has to gather facts for them asks before."""
    return _OURS.isEnabledFor(logging.DEBUG)


def accepted(**facts: Any) -> None:
    """A client was told yes: its message is with the server, or on disk."""
    _debug("accepted", facts)


def routed(**facts: Any) -> None:
    """It is clear by which server, account and identity a message leaves now, and why."""
    _debug("routed", facts)


def attempted(**facts: Any) -> None:
    """An attempt to hand a message over ended: who answered what, and after how long."""
    _debug("attempted", facts)


def delivered(**facts: Any) -> None:
    """The server has the message for every recipient that it was still owed to."""
    _info("delivered", facts)


def deferred(**facts: Any) -> None:
    """The server did not take the message now; it waits, or its client keeps it."""
    _warning("deferred", facts)


def failed(**facts: Any) -> None:
    """A message is over, and somebody does not get it."""
    _warning("failed", facts)


def returned(**facts: Any) -> None:
    """A report says that a message came back after the server had taken it."""
    _warning("returned", facts)


def queued(**facts: Any) -> None:
    """A message is on disk and waits."""
    _info("queued", facts)


def held(**facts: Any) -> None:
    """An account, an (account, address) pair or a message waits for a person."""
    _warning("held", facts)


def released(**facts: Any) -> None:
    """A hold is lifted: what waited for it goes on."""
    _info("released", facts)


def refused(**facts: Any) -> None:
    """We refused a client's connection, command, login or message."""
    _info("refused", facts)


def changed(**facts: Any) -> None:
    """The directory, store, a secret, a key or a certificate is another from now on, or a person changed the queue."""
    _info("changed", facts)


def warned(what: str, **facts: Any) -> None:
    """Something works and yet wants a person's eye; `what` is one sentence."""
    _tell(logging.WARNING, "warned", {"what": what, **facts})


def broken(what: str, **facts: Any) -> None:
    """A fault on our side that a person must mend; `what` is one sentence."""
    _tell(logging.ERROR, "broken", {"what": what, **facts})


def _debug(event: str, facts: dict[str, Any]) -> None:
    _tell(logging.DEBUG, event, facts)


def _info(event: str, facts: dict[str, Any]) -> None:
    _tell(logging.INFO, event, facts)


def _warning(event: str, facts: dict[str, Any]) -> None:
    _tell(logging.WARNING, event, facts)


def _tell(level: int, event: str, facts: dict[str, Any]) -> None:
    _LINES.log(level, event, **{key: value for key, value in facts.items() if value is not None})
