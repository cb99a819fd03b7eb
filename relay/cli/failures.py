"""How a command that did nothing, or not all of it, says so, and its exit code."""

from collections.abc import Sequence
from pathlib import Path

from relay.cli.arguments import config_of
from relay.cli.output import print_failure
from relay.config.faults import Faults
from relay.control.refused import Refused

EXIT_REFUSED = 1


def failed(error: Exception, arguments: Sequence[str]) -> int:
    """Say why a command line failed, whose `--config` stands in front, and return the exit code."""
    if isinstance(error, Refused | Faults):
        from relay.cli.session import Session

        sentence = Session(config_of(arguments)).told(str(error))
    elif isinstance(error, OSError):
        sentence = _system_sentence(error)
    else:
        sentence = _bug_sentence(error)
    print_failure(sentence, as_json="--json" in arguments)
    return EXIT_REFUSED


def _system_sentence(error: OSError) -> str:
    words = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {words}" if error.filename else words


def _bug_sentence(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "an unknown place"
    return f"this is a fault in relay, please report it: {type(error).__name__} in {place}: {error}"
