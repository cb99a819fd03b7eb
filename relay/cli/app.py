"""The command line as a whole: its commands, where `--config` may stand, and how a failure is told.

The commands that are programs of their own stand here: `relay serve`, `relay demo` and `relay sendmail`.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NoReturn

from typer import Context, Exit, Option, Typer, TyperException
from typer.main import get_command

from relay import __version__
from relay.cli import (
    backup,
    check,
    doctor,
    entries,
    init,
    messages,
    notifications,
    people,
    provider,
    secrets,
    server,
    status,
    transfers,
)
from relay.cli.invocation import Invocation, WrongUsage
from relay.cli.output import EXIT_REFUSED, abandon_stdout, bear_all_letters, failed, print_failure
from relay.cli.shared import command
from relay.cli.startup import COMPLETING, config_first, config_of

EXIT_USAGE = 2
_PORT = 2525


def _register_serve(app: Typer) -> None:
    """Add the commands."""
    command(app, "serve", "relay serve --config /etc/relay/relay.toml")(serve)
    command(app, "demo", "relay demo --send")(demo)


def serve(context: Context) -> None:
    """Run the relay until it is told to stop (SIGTERM or Ctrl-C)."""
    from relay.cli.startup import serve as run

    raise Exit(run(context.obj.settings_file))


def demo(
    send: Annotated[bool, Option("--send", help="Send one message, show its journey, and end.")] = False,
    port: Annotated[
        int | None,
        Option(
            "--port",
            metavar="P",
            min=0,
            max=65535,
            help=f"Where it listens. Default: {_PORT}, and any free one with --send.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Send a message through a relay with a built-in server.

    That server keeps all mail: nothing leaves this machine.
    """
    from relay.app.demo import run

    if port is None:
        port = 0 if send else _PORT
    raise Exit(run(port, send=send))


def _register_sendmail(app: Typer) -> None:
    """Add the command. Its options are sendmail's, which it reads itself."""
    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    app.command("sendmail", context_settings=settings, add_help_option=False)(sendmail)


def sendmail(context: Context) -> None:
    """Take a message on stdin, as sendmail(1) does."""
    from relay.sendmail.program import run

    raise Exit(run("relay sendmail", context.args))


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
    context.obj = Invocation(config_file)


# In this order the help has them.
for register in (
    _register_serve,
    init.register,
    check.register,
    status.register,
    doctor.register_route,
    doctor.register,
    _register_sendmail,
    backup.register,
):
    register(app)
for name, verbs in {
    "server": server.app,
    "channel": entries.channel_app,
    "agent": entries.agent_app,
    "application": entries.application_app,
    "queue": messages.queue_app,
    "account": status.account_app,
    "messages": messages.messages_app,
    "node": status.node_app,
    "provider": provider.app,
    "webhook": notifications.webhook_app,
    "alert": notifications.alert_app,
    "secrets": secrets.app,
    "import": transfers.import_app,
    "directory": transfers.directory_app,
    "config": check.config_app,
    "admin": people.admin_app,
    "token": people.token_app,
}.items():
    app.add_typer(verbs, name=name)


def run(arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return the exit code.

    Where the reader of its output has closed the pipe (`| head -1`), the process ends by SIGPIPE, as most programs do:
    quietly, and with 141 in a shell. A full disk is a failure.
    """
    if COMPLETING in os.environ:
        return _complete()
    bear_all_letters()
    try:
        code = _run(config_first(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
        return _end_by_sigpipe()
    except OSError as error:
        abandon_stdout()
        print(f"the output cannot be written: {error.strerror}", file=sys.stderr)
        return EXIT_REFUSED
    return code


def _end_by_sigpipe() -> NoReturn:
    """End this process by the signal that Python ignores, and turns into BrokenPipeError."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    raise AssertionError("SIGPIPE ends a process")


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
        return failed(error, config_of(arguments), as_json=as_json)
    except Exception as error:
        return failed(error, config_of(arguments), as_json=as_json)
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
