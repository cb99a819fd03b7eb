"""`relay serve` and `relay demo`."""

from typing import Annotated

from typer import Context, Exit, Option, Typer

from relay.cli.options import command

_PORT = 2525


def register(app: Typer) -> None:
    """Add the commands."""
    command(app, "serve", "relay serve --config /etc/relay/relay.toml")(serve)
    command(app, "demo", "relay demo --send")(demo)


def serve(context: Context) -> None:
    """Run the relay until it is told to stop (SIGTERM or Ctrl-C)."""
    from relay.cli.serving import serve as run

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
