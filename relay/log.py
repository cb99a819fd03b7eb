"""The log: how a line looks, and the vocabulary of what happens to a message (one function per event).

Lines go to stderr, JSON or console. A line never holds a secret or a message's body: the functions here take only
names, addresses, replies and times, and what a client or server said arrives cleaned (`relay.mail.reply.clean_text`).
"""

import logging
import sys
from typing import Any, Literal, TextIO

import structlog

Format = Literal["auto", "console", "json"]


def configure(form: Format = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Set up the process's log, once at its start. `auto` is console on a terminal and JSON elsewhere."""
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            _renderer(form, stream),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _adopt_standard_logging(max(number, logging.WARNING))


def _renderer(form: Format, stream: TextIO) -> Any:
    is_console = form == "console" or (form == "auto" and stream.isatty())
    if is_console:
        return structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="time", pad_event_to=12)
    return structlog.processors.JSONRenderer(ensure_ascii=False, default=str)


class _Adopted(logging.Handler):
    """Hands the lines of libraries that use the standard logging module to our log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one library line; its exception, if any, goes along."""
        structlog.get_logger().log(
            record.levelno, "library", logger=record.name, message=record.getMessage(), exc_info=record.exc_info or None
        )


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


def accepted(**facts: Any) -> None:
    """A client's message was said yes to."""
    _info("accepted", facts)


def delivered(**facts: Any) -> None:
    """The upstream took the message for every recipient."""
    _info("delivered", facts)


def deferred(**facts: Any) -> None:
    """The upstream did not take the message now."""
    _warning("deferred", facts)


def failed(**facts: Any) -> None:
    """The upstream refused the message for good."""
    _warning("failed", facts)


def queued(**facts: Any) -> None:
    """A message is on disk and waits."""
    _info("queued", facts)


def attempted(**facts: Any) -> None:
    """An attempt ended without an outcome for the message: it waits on."""
    _info("attempted", facts)


def held(**facts: Any) -> None:
    """An account, an (account, address) pair or a message waits for a person."""
    _warning("held", facts)


def released(**facts: Any) -> None:
    """A hold is lifted."""
    _info("released", facts)


def refused(**facts: Any) -> None:
    """We refused a client's command or message."""
    _info("refused", facts)


def changed(**facts: Any) -> None:
    """The directory, a secret or a certificate is another from now on."""
    _info("changed", facts)


def warned(what: str, **facts: Any) -> None:
    """Something works and yet wants a person's eye; `what` is one sentence."""
    structlog.get_logger().warning("warned", what=what, **_known(facts))


def broken(what: str, **facts: Any) -> None:
    """A fault on our side that a person must mend; `what` is one sentence."""
    structlog.get_logger().error("broken", what=what, **_known(facts))


def _info(event: str, facts: dict[str, Any]) -> None:
    structlog.get_logger().info(event, **_known(facts))


def _warning(event: str, facts: dict[str, Any]) -> None:
    structlog.get_logger().warning(event, **_known(facts))


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value is not None}
