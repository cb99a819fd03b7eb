"""What a command asks a person. Nothing is asked when stdin is no terminal."""

import sys
from collections.abc import Callable

from relay.cli.invocation import WrongUsage
from relay.control.refused import Refused

_TRIES = 3


def is_person() -> bool:
    """Whether somebody sits at the other end of stdin."""
    return sys.stdin is not None and sys.stdin.isatty()


def read_password(whose: str, *, from_stdin: bool) -> str:
    """Return a password: one line of stdin, or asked for twice. It is never an argument, which others could list.

    Raises WrongUsage where nobody can be asked, Refused where what came is no password.
    """
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif is_person():
        password = _ask_twice(whose)
    else:
        raise WrongUsage("stdin is no terminal, so nobody can be asked; write the password there with --password-stdin")
    if not password:
        raise Refused("the password is empty; nothing was changed")
    return password


def ask(question: str, default: str = "", fault: Callable[[str], str] = lambda _: "") -> str:
    """Return a person's answer to a question, or the default where it is empty. Asks again while there is neither.

    `fault` says in a sentence what is wrong with an answer, which is then asked for again; "" where nothing is.
    """
    shown = f" [{default}]" if default else ""
    while True:
        print(f"{question}{shown}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise Refused("the input ended before all was answered; nothing was changed")
        answer = line.strip() or default
        wrong = _unreadable(answer) or fault(answer)
        if not wrong:
            return answer
        print(wrong, file=sys.stderr)


def ask_yes(question: str, *, default: bool) -> bool:
    """Return whether a person says yes."""
    answer = ask(f"{question} (yes or no)", "yes" if default else "no", fault=_no_yes_or_no)
    return answer.lower().startswith("y")


def _no_yes_or_no(answer: str) -> str:
    return "" if answer.lower() in {"y", "yes", "n", "no"} else f"{answer!r} is neither yes nor no; write one of them"


def _unreadable(answer: str) -> str:
    """Return why what was typed cannot be an answer, whatever the question is."""
    if not answer:
        return "there is no default; write an answer, or end with Ctrl-C"
    return "" if answer.isprintable() else "there are characters in it that cannot be printed; write plain text"


def _ask_twice(whose: str) -> str:
    """Return a password that was typed twice alike. Raises Refused after a few tries, or where the input ends."""
    from getpass import getpass

    try:
        for _ in range(_TRIES):
            password = getpass(f"Password for {whose}: ", stream=sys.stderr)
            if not password:
                print("the password is empty", file=sys.stderr)
            elif getpass("The same again: ", stream=sys.stderr) == password:
                return password
            else:
                print("the two passwords differ", file=sys.stderr)
    except EOFError:
        raise Refused("the input ended before there was a password; nothing was changed") from None
    raise Refused(f"there was no password in {_TRIES} tries; nothing was changed")
