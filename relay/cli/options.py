"""Options and arguments that several commands take."""

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, TypeVar

from typer import Argument, Option, Typer

from relay.cli import complete

Command = TypeVar("Command", bound=Callable[..., Any])

Name: TypeAlias = Annotated[str, Argument(metavar="NAME", show_default=False, autocompletion=complete.names)]
AsJson: TypeAlias = Annotated[bool, Option("--json", help="Print JSON for scripts.")]
PasswordStdin: TypeAlias = Annotated[bool, Option("--password-stdin", help="Read the password as one line from stdin.")]
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


def command(app: Typer, name: str, example: str, help_: str | None = None) -> Callable[[Command], Command]:
    """Return a decorator that adds a command whose help is the docstring or `help_`, and ends with an example."""
    return app.command(name, help=help_, epilog=_epilog(example))


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
