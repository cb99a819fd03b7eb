"""The log: how a line looks, and the vocabulary of what happens to a message (one function per event).

Lines go to stderr, JSON or console, written behind (`relay.system.log_writer`): to tell something neither raises nor
waits. A line never holds a secret or a message's body: the functions here take only names, addresses, replies and
times, and what a client or server said arrives cleaned (`relay.mail.reply.clean_text`).

SECURITY: whatever a value holds, nobody but us begins a line. Control characters and all that ends a line somewhere are
escaped, the lines of an exception on a console are set in, and a line is never as long as the journal cuts it.
"""

import atexit
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, TypeVar

from relay.system.log_writer import LogWriter, stderr_behind
from relay.system.terminal import has_colours

_Subject = TypeVar("_Subject")
Format = Literal["auto", "console", "json"]
# Holds the level. Lines are not made by the standard logging module: only its libraries' lines come from there.
_OURS = logging.getLogger("relay")
# JSON escapes control characters up to 0x1f. Readers also end lines at NEL and at Unicode's separators, and terminals
# obey all of C1, and turn around what stands behind a mark of direction.
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ENDS_AND_ORDERS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029, *_DIRECTIONS)}
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, default=str).encode
# Characters. A character has at most 4 octets, and journald cuts a line after 48 KiB (LineMax= of journald.conf(5)):
# what follows would be a line of its own, in words of somebody else.
_LONGEST = 12_000
# How a line that is longer is shortened, and more so where that is not enough: what is left of a text, how many
# entries of a list, and of each of them. The last fits if every character is written as six.
_CUTS = ((2000, 30, 260), (200, 10, 100))
# The priority in front of a line that the journal reads: sd-daemon(3).
_LEVEL_NAMES = {number: name.lower() for name, number in logging.getLevelNamesMapping().items() if name != "WARN"}
_PRIORITIES = {logging.DEBUG: "<7>", logging.INFO: "<6>", logging.WARNING: "<4>", logging.ERROR: "<3>"}


class _AtOnce:
    """Writes lines to a stream at once: for commands, whose lines and words on stderr keep their order, and tests."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.dropped = 0

    def write(self, line: str) -> None:
        """Write a line."""
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.lose()

    def lose(self) -> None:
        """Count a line that could not be written."""
        self.dropped += 1


class _Output:
    """Where the lines of this process go. `console` makes them for people; else they are JSON.

    `behind` is the writer whose thread makes the lines, too. `priorities` stand in front of a line, by its level.
    """

    writer: LogWriter | _AtOnce | None = None
    behind: LogWriter | None = None
    priorities: Mapping[int, str] = {}
    console: "_ConsoleLines | None" = None


def configure(form: Format = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Set up the process's log, at its start or again. `auto` is console on a terminal and JSON elsewhere.

    Lines go to stderr, written behind; to a `stream` that is given they go at once. Where that is the journal's, each
    line has its priority in front, which the journal takes off.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    writer: LogWriter | _AtOnce = _behind() if stream is None else _AtOnce(stream)
    _Output.writer = writer
    stream = stream or sys.stderr
    is_console = form == "console" or (form == "auto" and stream is not None and stream.isatty())
    _Output.behind = writer if isinstance(writer, LogWriter) and not is_console else None
    _Output.priorities = _PRIORITIES if _is_journal(stream, os.environ) else {}
    has_colour = stream is not None and has_colours(stream)
    _Output.console = _ConsoleLines(has_colour) if is_console else None
    _OURS.setLevel(number)
    _adopt_standard_logging(max(number, logging.WARNING))


def print_behind() -> None:
    """Let what this process prints to stderr go the way of its log from now on."""
    if isinstance(_Output.writer, LogWriter):
        stderr_behind(_Output.writer)


def dropped_lines() -> int:
    """Return how many lines of this process could not be written."""
    return _Output.writer.dropped if _Output.writer is not None else 0


def flush() -> None:
    """Write what waits, within a second: what ends waits no longer for who does not read."""
    if isinstance(_Output.writer, LogWriter):
        _Output.writer.flush()


atexit.register(flush)


def _behind() -> "LogWriter | _AtOnce":
    """Return the writer of stderr: the one from before where stderr is the same. One in memory is written at once."""
    descriptor = None
    if sys.stderr is not None:
        try:
            descriptor = sys.stderr.fileno()
        except (OSError, ValueError):
            return _AtOnce(sys.stderr)
    if isinstance(_Output.writer, LogWriter):
        if _Output.writer.is_for(descriptor):
            return _Output.writer
        _Output.writer.flush()
    return LogWriter(descriptor, _dropped_line)


def _dropped_line(lines: int) -> str:
    """Return the line that says so, as the log is set up now; "" where it tells nothing of that level."""
    made: list[str] = []
    dropped(lambda level, event, facts: made.append(_line(level, event, facts, datetime.now(UTC))), lines)
    return made[0] if _OURS.isEnabledFor(logging.WARNING) else ""


def _line(level: int, event: str, facts: dict[str, Any], now: datetime) -> str:
    """Return a line as the log is set up now; facts that are None are left out."""
    told = {key: value for key, value in facts.items() if value is not None}
    make = _Output.console or _json_line
    return _Output.priorities.get(level, "") + make(level, event, told, now)


class _ConsoleLines:
    """Makes lines for people, by structlog's renderer. It is loaded with the first one: with it come Rich and 8 MB."""

    def __init__(self, has_colour: bool) -> None:
        self._has_colour = has_colour
        self._render: Callable[..., str] | None = None

    def __call__(self, level: int, event: str, facts: dict[str, Any], now: datetime) -> str:
        """Return the line; that of an exception has more, set in."""
        if self._render is None:
            from structlog.dev import ConsoleRenderer  # noqa: PLC0415

            self._render = ConsoleRenderer(colors=self._has_colour, timestamp_key="time", pad_event_to=12)
        shown = _as_console(_completed(level, event, facts, now))
        return self._render(None, _LEVEL_NAMES[level], shown)


def _json_line(level: int, event: str, facts: dict[str, Any], now: datetime) -> str:
    facts = _completed(level, event, facts, now)
    line = _as_json(facts)
    return line if len(line) <= _LONGEST else _in_short(facts)


def _completed(level: int, event: str, facts: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Put in what every line has, and the words of an exception in the place of `exc_info`; return the same facts."""
    if (found := facts.pop("exc_info", None)) is not None:
        error = found if isinstance(found, BaseException) else found[1] if isinstance(found, tuple) else sys.exception()
        if error is not None:
            facts["exception"] = "".join(traceback.format_exception(error)).rstrip("\n")
    facts["event"], facts["level"] = event, _LEVEL_NAMES[level]
    facts["time"] = now.isoformat().replace("+00:00", "Z")
    return facts


def _as_json(facts: dict[str, Any]) -> str:
    line = _encode(facts)
    return line if line.isascii() and "\x7f" not in line else line.translate(_ENDS_AND_ORDERS)


def _in_short(facts: dict[str, Any]) -> str:
    line = ""
    for cuts in _CUTS:
        line = _as_json({key: _cut(value, *cuts) for key, value in facts.items()})
        if len(line) <= _LONGEST:
            break
    return line


def _cut(value: Any, most: int, entries: int, entry: int) -> Any:
    """Return a value without its middle: how a text begins and ends says more than either alone."""
    if isinstance(value, str) and len(value) > most:
        return f"{value[: most // 2]} … {value[-most // 2 :]}"
    if isinstance(value, list | tuple):
        kept = [_cut(one, entry, 0, 0) for one in value[:entries]]
        return [*kept, f"… {len(value) - entries} more"] if len(value) > entries else kept
    return value


def _as_console(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts as a console can be given them: no long ones, and nothing that orders it about."""
    fit = {key: _printable(_cut(value, *_CUTS[0])) for key, value in facts.items() if key != "exception"}
    if "exception" in facts:
        lines = str(_cut(facts["exception"], *_CUTS[0])).split("\n")
        fit["exception"] = "\n".join(f"    {_printable(line)}" for line in lines)
    return fit


def _printable(value: Any) -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in value)


def _is_journal(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    """Whether a stream is the one that systemd connected with the journal: systemd.exec(5), $JOURNAL_STREAM."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno() if stream is not None else -1)
    except (OSError, ValueError):  # a stream in memory, or one that is closed
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class _Adopted(logging.Handler):
    """Hands the lines of libraries that use the standard logging module to our log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one library line; its exception, if any, goes along."""
        try:
            facts = {"logger": record.name, "message": record.getMessage(), "exc_info": record.exc_info or None}
        except Exception:  # words that do not fit what they are about: the library's fault, and no reason to raise
            facts = {"logger": record.name, "message": str(record.msg)}
        _tell(record.levelno, "library", facts)


def _adopt_standard_logging(level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Adopted()]
    root.setLevel(level)


# The vocabulary. Keys are the words of DESIGN section 2; a value of None is left out.


def started(**facts: Any) -> None:
    """The relay serves: its listeners and folder."""
    _tell(logging.INFO, "started", facts)


def stopped(**facts: Any) -> None:
    """The relay has ended in order."""
    _tell(logging.INFO, "stopped", facts)


# Steps on the way of a message are told at debug: at info a message that goes well has one line.


def is_detailed() -> bool:
    """Whether the steps are told at all. Who has to gather facts for them asks before."""
    return 0 < _OURS.level <= logging.DEBUG


def accepted(**facts: Any) -> None:
    """A client was told yes: its message is with the server, or on disk."""
    _tell(logging.DEBUG, "accepted", facts)


def routed(**facts: Any) -> None:
    """It is clear by which server, account and identity a message leaves now, and why."""
    _tell(logging.DEBUG, "routed", facts)


def attempted(**facts: Any) -> None:
    """An attempt to hand a message over ended: who answered what, and after how long."""
    _tell(logging.DEBUG, "attempted", facts)


def delivered(**facts: Any) -> None:
    """The server has the message for every recipient that it was still owed to."""
    _tell(logging.INFO, "delivered", facts)


def deferred(**facts: Any) -> None:
    """The server did not take the message now; it waits, or its client keeps it."""
    _tell(logging.WARNING, "deferred", facts)


def failed(**facts: Any) -> None:
    """A message is over, and somebody does not get it."""
    _tell(logging.WARNING, "failed", facts)


def returned(**facts: Any) -> None:
    """A report says that a message came back after the server had taken it."""
    _tell(logging.WARNING, "returned", facts)


def queued(**facts: Any) -> None:
    """A message is on disk and waits."""
    _tell(logging.INFO, "queued", facts)


def held(**facts: Any) -> None:
    """An account, an (account, address) pair or a message waits for a person."""
    _tell(logging.WARNING, "held", facts)


def released(**facts: Any) -> None:
    """A hold is lifted: what waited for it goes on."""
    _tell(logging.INFO, "released", facts)


def clock_set(**facts: Any) -> None:
    """The clock of this machine was set by so many `seconds`: what waits is due as if it had not been."""
    _tell(logging.WARNING, "clock_set", facts)


def overtaken(**facts: Any) -> None:
    """Another node took over a message that was under way here: its record counts, and nothing of ours is written."""
    _tell(logging.WARNING, "overtaken", facts)


def refused(**facts: Any) -> None:
    """We refused a client's connection, command, login or message."""
    _tell(logging.INFO, "refused", facts)


def changed(**facts: Any) -> None:
    """The directory, store, a secret, a key or a certificate is another from now on, or a person changed the queue."""
    _tell(logging.INFO, "changed", facts)


def warned(what: str, **facts: Any) -> None:
    """Something works and yet wants a person's eye; `what` is one sentence."""
    _tell(logging.WARNING, "warned", {"what": what, **facts})


def broken(what: str, **facts: Any) -> None:
    """A fault on our side that a person must mend; `what` is one sentence."""
    _tell(logging.ERROR, "broken", {"what": what, **facts})


def dropped(tell: Callable[[int, str, dict[str, Any]], None], lines: int) -> None:
    """So many lines could not be written before this one; told by the log's writer alone."""
    tell(logging.WARNING, "dropped", {"lines": lines, "what": f"{lines} lines of the log were dropped"})


def later(event: Callable[..., None], gather: Callable[[_Subject], dict[str, Any]], of: _Subject, octets: int) -> None:
    """Tell an event of something that nobody changes any more; `octets`: how much memory that takes meanwhile.

    Its facts are gathered, and its line is made, by the thread that writes it: both cost more than the rest of what is
    told of a message.
    """
    level = _LEVELS[event]
    if level < _OURS.level:
        return
    if _Output.behind is None:
        event(**gather(of))
    else:
        _Output.behind.write_later((_gathered, level, event.__name__, gather, of, datetime.now(UTC)), octets)


# Those that many messages have.
_LEVELS: Mapping[Callable[..., None], int] = {
    delivered: logging.INFO,
    queued: logging.INFO,
    refused: logging.INFO,
    deferred: logging.WARNING,
    failed: logging.WARNING,
    held: logging.WARNING,
}


def _gathered(level: int, event: str, gather: Callable[[Any], dict[str, Any]], of: Any, now: datetime) -> str:
    return _line(level, event, gather(of), now)


def _tell(level: int, event: str, facts: dict[str, Any]) -> None:
    """Write one line, where its level is told; before `configure` that is a warning or worse, at once to stderr."""
    if not _OURS.isEnabledFor(level):
        return
    writer = _Output.writer or _AtOnce(sys.stderr)
    try:
        writer.write(_line(level, event, facts, datetime.now(UTC)))
    except Exception:
        # A line that cannot be made is one that is dropped: what it tells of has happened all the same.
        writer.lose()
