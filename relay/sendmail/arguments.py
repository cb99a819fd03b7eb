"""The command line of sendmail(1), as Sendmail made it and Postfix, Exim and msmtp understand it.

Programs call it in a thousand ways, so that what concerns another mail system's files, queues and hosts is taken and
ignored. What would change the meaning (a daemon, a check of addresses) is wrong usage.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from relay.sendmail.exit_status import NotSent

_FLAGS = frozenset("GIUcimntvx")
_WITH_VALUE = frozenset("ABCFLNOVRXbefhopr")
# -q stands alone or has its value at once: "-q 30m" would be a recipient.
_WITH_VALUE_AT_ONCE = frozenset("q")
_PROGRAMS = {"mailq": "p", "newaliases": "i"}


class Mode(Enum):
    """What is to be done: NOTHING is what Relay does without being told, TALK passes an SMTP session through."""

    SEND = auto()
    TALK = auto()
    NOTHING = auto()
    LIST = auto()
    HELP = auto()
    VERSION = auto()


_MODES = {
    "m": Mode.SEND,
    "s": Mode.TALK,
    "p": Mode.LIST,
    "i": Mode.NOTHING,
    "h": Mode.NOTHING,
    "H": Mode.NOTHING,
}
_LONG = {"--help": Mode.HELP, "--version": Mode.VERSION}


@dataclass(frozen=True, slots=True)
class Arguments:
    """One command line.

    `sender` is None where none was given, "" for the null sender. `dot_ends` says that a line with only a dot ends
    the message. `notify`, `ret` and `envid` are the values for RCPT and MAIL (RFC 3461), "" where none was given.
    """

    mode: Mode = Mode.SEND
    recipients: tuple[str, ...] = ()
    sender: str | None = None
    full_name: str = ""
    reads_recipients: bool = False
    dot_ends: bool = True
    notify: str = ""
    ret: str = ""
    envid: str = ""
    is_verbose: bool = False


def parse_arguments(program: str, words: Sequence[str]) -> Arguments:
    """Return what the words ask for; `program` is the name it was called by. Raises NotSent for wrong usage."""
    options, recipients = _split(words)
    arguments = Arguments(recipients=tuple(recipients))
    if program in _PROGRAMS:
        options.insert(0, ("b", _PROGRAMS[program]))
    for name, value in options:
        if name in _MEANINGS:
            arguments = _MEANINGS[name](arguments, value)
    return arguments


def _split(words: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the options with their values, and what follows them.

    SECURITY: as with getopt of POSIX, the first word that is not an option ends them, so that an address from elsewhere
    cannot be one. An option behind it is refused instead of taken for an address: it was meant to do something.
    """
    options: list[tuple[str, str]] = []
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            return options, rest
        options += _long(word, rest) if word.startswith("--") else _short(word, rest)
    stray = next((word for word in rest if word.startswith("-")), None)
    if stray is not None:
        raise _wrong(f"the option {stray!r} stands behind a recipient; write options first, or -- before recipients")
    return options, rest


def _long(word: str, rest: list[str]) -> list[tuple[str, str]]:
    if word in _LONG:
        return [(word, "")]
    if word.startswith("--config="):
        return []
    if word == "--config" and rest:
        # As before any other command of relay. Nothing is read from it here.
        rest.pop(0)
        return []
    raise _wrong(f"there is no option {word}")


def _short(word: str, rest: list[str]) -> list[tuple[str, str]]:
    options: list[tuple[str, str]] = []
    letters = word[1:]
    if not letters:
        raise _wrong("'-' is not an option")
    while letters:
        name, letters = letters[0], letters[1:]
        value = ""
        if name in _WITH_VALUE_AT_ONCE or (name in _WITH_VALUE and letters):
            value, letters = letters, ""
        elif name in _WITH_VALUE:
            if not rest:
                raise _wrong(f"the option -{name} needs a value")
            value = rest.pop(0)
        elif name not in _FLAGS:
            raise _wrong(f"there is no option -{name}")
        options.append((name, value))
    return options


def _with_mode(arguments: Arguments, value: str) -> Arguments:
    mode = _MODES.get(value)
    if mode is None:
        hint = "; the service is started by: relay serve" if value in {"d", "D", "l"} else ""
        raise _wrong(f"-b{value} is not done here{hint}")
    return replace(arguments, mode=mode)


def _with_sender(arguments: Arguments, value: str) -> Arguments:
    return replace(arguments, sender="" if value.strip() in {"", "<>"} else value)


def _with_o(arguments: Arguments, value: str) -> Arguments:
    return replace(arguments, dot_ends=False) if value == "i" else arguments


def _with_notify(arguments: Arguments, value: str) -> Arguments:
    from relay.mail.dsn_parameters import Notify, ParameterFault

    try:
        return replace(arguments, notify=Notify(value.replace(" ", "").upper()).text)
    except ParameterFault:
        raise _wrong("-N wants never, or a list of success, failure and delay") from None


def _with_return(arguments: Arguments, value: str) -> Arguments:
    if value.upper() not in {"FULL", "HDRS"}:
        raise _wrong("-R wants full or hdrs")
    return replace(arguments, ret=value.upper())


def _with_envid(arguments: Arguments, value: str) -> Arguments:
    from relay.mail.dsn_parameters import ParameterFault, encode_xtext, parse_envid

    try:
        return replace(arguments, envid=parse_envid(encode_xtext(value).encode("ascii")))
    except ParameterFault as fault:
        raise _wrong(f"-V: {fault}") from None


_Meaning = Callable[[Arguments, str], Arguments]
_MEANINGS: Mapping[str, _Meaning] = {
    "b": _with_mode,
    "f": _with_sender,
    "r": _with_sender,
    "F": lambda arguments, value: replace(arguments, full_name=value),
    "t": lambda arguments, _: replace(arguments, reads_recipients=True),
    "i": lambda arguments, _: replace(arguments, dot_ends=False),
    "o": _with_o,
    "v": lambda arguments, _: replace(arguments, is_verbose=True),
    "I": lambda arguments, _: replace(arguments, mode=Mode.NOTHING),
    "q": lambda arguments, _: replace(arguments, mode=Mode.NOTHING),
    "N": _with_notify,
    "R": _with_return,
    "V": _with_envid,
    "--help": lambda arguments, _: replace(arguments, mode=Mode.HELP),
    "--version": lambda arguments, _: replace(arguments, mode=Mode.VERSION),
}


def _wrong(sentence: str) -> NotSent:
    return NotSent(os.EX_USAGE, sentence)
