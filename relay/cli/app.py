"""The command line as a whole: its commands, where `--config` may stand, and how a failure is told."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from typer import Context, Exit, Option, Typer, TyperException
from typer.main import get_command

from relay import __version__
from relay.cli import (
    account,
    admin,
    agent,
    application,
    backup,
    channel,
    check,
    config,
    directory,
    doctor,
    import_,
    init,
    messages,
    node,
    provider,
    queue,
    route,
    secrets,
    sendmail,
    serve,
    server,
    status,
    token,
)
from relay.cli.arguments import COMPLETING, config_first
from relay.cli.failures import EXIT_REFUSED, failed
from relay.cli.output import abandon_stdout, bear_all_letters, print_failure
from relay.cli.session import Session, WrongUsage

EXIT_USAGE = 2

app = Typer(
    name="relay",
    help="The local SMTP service that lets every channel and agent send as itself.",
    epilog="Begin with: relay init, or look around with: relay demo",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(is_asked: bool) -> None:
    if is_asked:
        print(f"relay {__version__}")
        raise Exit


@app.callback()
def root(
    context: Context,
    config_file: Annotated[
        Path | None,
        Option("--config", metavar="FILE", help="The settings file. May stand before or after the command."),
    ] = None,
    _: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Keep what all commands share."""
    context.obj = Session(config_file)


for module in (serve, init, check, status, route, doctor, sendmail, backup):
    module.register(app)
for name, noun in {
    "server": server,
    "channel": channel,
    "agent": agent,
    "application": application,
    "queue": queue,
    "account": account,
    "messages": messages,
    "node": node,
    "provider": provider,
    "secrets": secrets,
    "import": import_,
    "directory": directory,
    "config": config,
    "admin": admin,
    "token": token,
}.items():
    app.add_typer(noun.app, name=name)


def run(arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return the exit code.

    Who reads what it prints may have had enough (`| head -1`): that is no failure. A full disk is one.
    """
    if COMPLETING in os.environ:
        return _complete()
    bear_all_letters()
    try:
        code = _run(config_first(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
        return 0
    except OSError as error:
        abandon_stdout()
        print(f"the output cannot be written: {error.strerror}", file=sys.stderr)
        return EXIT_REFUSED
    return code


@cache
def _commands() -> Callable[..., Any]:
    # Typer makes all of them anew for each call of the app.
    return get_command(app)


def _run(arguments: Sequence[str]) -> int:
    as_json, stdout = "--json" in arguments, sys.stdout
    try:
        code = _commands()(arguments, prog_name="relay", standalone_mode=False)
    except TyperException as error:
        print_failure(_usage(error), as_json=as_json)
        return EXIT_USAGE
    except WrongUsage as error:
        print_failure(str(error), as_json=as_json)
        return EXIT_USAGE
    except SystemExit:
        # Typer ends the program where a pipe is broken, and puts another stream in the place of stdout.
        if sys.stdout is stdout:
            raise
        sys.stdout = stdout
        raise BrokenPipeError from None
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:  # what was printed
            raise
        return failed(error, arguments)
    except Exception as error:
        return failed(error, arguments)
    return code if isinstance(code, int) else 0


def _complete() -> int:
    """Tell the shell what it may offer. Nothing is ever said on a terminal on which somebody is typing."""
    try:
        _commands()((), prog_name="relay", standalone_mode=False)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except Exception:  # whatever it is, it would be written into the line that somebody types
        return EXIT_REFUSED
    return 0


def _usage(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is None or "\n" in message:
        return message
    return f"{message.rstrip('.')}\nTry: {context.command_path} --help"


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
