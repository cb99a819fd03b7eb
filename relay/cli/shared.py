"""What the commands share: their options, what they ask a person, and what several nouns do alike (passwords, tests).

Nothing is asked when stdin is no terminal.
"""

import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, TypeVar

from typer import Argument, Context, Exit, Option, Typer
from typer.core import TyperCommand

from relay.cli import complete
from relay.cli.invocation import Invocation, WrongUsage
from relay.cli.output import print_json, words
from relay.control.json_values import from_json
from relay.control.refused import Refused
from relay.control.tests.results import LoginState, PasswordKept, StepRecord
from relay.system.terminal import Progress, painted

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


Command = TypeVar("Command", bound=Callable[..., Any])

Name: TypeAlias = Annotated[str, Argument(metavar="NAME", show_default=False, autocompletion=complete.names)]
AsJson: TypeAlias = Annotated[bool, Option("--json", help="Print JSON for scripts.")]
PasswordStdin: TypeAlias = Annotated[bool, Option("--password-stdin", help="Read the password as one line from stdin.")]
Unchecked: TypeAlias = Annotated[
    bool, Option("--unchecked", help="Keep the password without trying it, or although the server refuses it.")
]
NoSend: TypeAlias = Annotated[bool, Option("--no-send", help="Stop before the message itself: nothing arrives.")]
Profile: TypeAlias = Annotated[
    str | None,
    Option("--profile", metavar="P", help="Only those of this channel or agent.", autocompletion=complete.profiles),
]
StateWord: TypeAlias = Annotated[
    str | None,
    Option(
        "--state",
        metavar="S",
        help="Only those in this state, such as queued, held or failed.",
        autocompletion=complete.one_of(*complete.STATES),
    ),
]
Changes: TypeAlias = Annotated[
    list[str],
    Argument(
        metavar="KEY=VALUE",
        show_default=False,
        help="KEY= restores a default; lists are comma-separated.",
        autocompletion=complete.changes,
    ),
]


def command(
    app: Typer, name: str, example: str, help_: str | None = None, *, cls: type[TyperCommand] | None = None
) -> Callable[[Command], Command]:
    """Return a decorator that adds a command whose help is the docstring or `help_`, and ends with an example."""
    return app.command(name, help=help_, epilog=_epilog(example), cls=cls)


def noun(what: str, example: str) -> Typer:
    """Return the group of a noun's verbs."""
    return Typer(
        help=what,
        epilog=_epilog(example),
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def _epilog(example: str) -> str:
    return f"\b\nExample:\n  {example}"  # after a backspace nothing is wrapped


def set_incoming_password(invocation: Invocation, kind: str, name: str, *, from_stdin: bool) -> None:
    """Ask for the password of somebody's mailbox, where mail arrives, and set it. `kind` is the noun."""
    invocation.run(f"{kind}.show", name=name)  # a name that is nobody's is refused before anything is asked
    password = read_password(f"the mailbox of {kind} {name}", from_stdin=from_stdin)
    invocation.run(f"{kind}.incoming", name=name, password=password)
    print(f"the password of the mailbox of {kind} {name} is set")


def show_login(kept: PasswordKept) -> None:
    """Say what is known of a mail password that was kept."""
    login = kept.login
    if login.state is LoginState.WORKS:
        print(f"it works: {words(login.detail)}")
    elif login.state is LoginState.UNKNOWN:
        print(f"not tested: {words(login.detail)}", file=sys.stderr)


def set_login_password(invocation: Invocation, kind: str, name: str, operation: str, *, from_stdin: bool) -> None:
    """Ask for the password with which somebody logs in at Relay, and set it by an operation. `kind` is the noun."""
    invocation.run(f"{kind}.show", name=name)  # a name that is nobody's is refused before anything is asked
    password = read_password(f"the login of {kind} {name}", from_stdin=from_stdin)
    invocation.run(operation, name=name, password=password)
    print(f"the login password of {kind} {name} is set")


def separated(text: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def show_test(invocation: Invocation, operation: str, *, as_json: bool, **params: Any) -> bool:
    """Run a test, show its steps, and return whether all of them went well."""
    answers: list[Any] = []
    steps: list[StepRecord] = []

    def tell(answer: Any) -> None:
        answers.append(answer)
        step = from_json(StepRecord, answer)
        steps.append(step)
        progress.tell(f"{step.step} is done, waiting for what comes next")
        if not as_json:
            detail = invocation.told(words(step.detail))
            how = painted("ok    ", "green") if step.ok else painted("FAILED", "red")
            progress.print(f"{how}  {step.step:<7}  {detail}".rstrip())

    with Progress("waiting for the first step") as progress:
        invocation.stream(operation, tell, **params)
    is_good = bool(steps) and all(step.ok for step in steps)
    if as_json:
        print_json({"ok": is_good, "steps": answers})
    return is_good


_RedirectStdin = Annotated[
    bool, Option("--redirect-stdin", help="Read where the browser ended as one line from stdin, also at a terminal.")
]


def register_authorize(app: Typer, noun: str, example: str) -> None:
    """Add the verb. `noun` is "server", "channel" or "agent"."""

    @command(app, "authorize", f"relay {noun} authorize {example}", f"Let the account of one {noun} log in by OAuth.")
    def authorize(context: Context, name: Name, redirect_stdin: _RedirectStdin = False) -> None:
        try:
            _authorize(context.obj, noun, name, from_stdin=redirect_stdin)
        except KeyboardInterrupt:
            print("\nnothing was changed", file=sys.stderr)
            raise Exit(1) from None


def _authorize(invocation: Invocation, noun: str, name: str, *, from_stdin: bool) -> None:
    items: list[dict[str, Any]] = []

    def tell(item: dict[str, Any]) -> None:
        items.append(item)
        if item["step"] == "visit":
            _show_visit(item)

    invocation.stream(f"{noun}.authorize", tell, name=name)
    last = items[-1]
    if last["step"] == "visit":
        redirect = _redirect(from_stdin=from_stdin)
        last = invocation.run(
            f"{noun}.authorized", name=name, redirect=redirect, state=last["state"], verifier=last["verifier"]
        )
    print(f"{words(last['account'])} is authorized; its token is renewed by itself")
    if last["warning"]:
        print(f"but {words(last['warning'])}", file=sys.stderr)


def _show_visit(item: dict[str, Any]) -> None:
    """Say what a person has to do; the address stands alone on its line, to be copied."""
    if item["flow"] == "device":
        print(f"Open this page on any machine:\n\n  {words(item['url'])}\n")
        print(f"and type this code:\n\n  {words(item['code'])}\n")
        print(f"Waiting for at most {item['seconds'] // 60} minutes; Ctrl-C ends it.", flush=True)
        return
    print(f"Open this page in a browser and allow the access:\n\n  {words(item['url'])}\n")
    print(
        "The browser then ends at a page on localhost that it cannot open. That is right: copy the whole\n"
        "address from its address line.",
        flush=True,
    )


def _redirect(*, from_stdin: bool) -> str:
    """Return where the browser ended. Without a person at a terminal nobody is asked: it is the next line of stdin."""
    if is_person() and not from_stdin:
        return ask("That address")
    line = sys.stdin.readline().strip()
    if not line:
        raise Refused("the input ended before there was an address; nothing was changed")
    return line
