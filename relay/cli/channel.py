"""`relay channel`: the shared sending addresses."""

from typing import Annotated

from typer import Context, Option

from relay.cli import complete
from relay.cli.profiles import add_profile, register_changing, register_reading, register_test
from relay.cli.shared import AsJson, Name, PasswordStdin, Unchecked, command, noun, register_authorize

app = noun("Channels: shared sending addresses.", "relay channel list")


@command(app, "add", "relay channel add support --address support@acmejets.example")
def add(
    context: Context,
    name: Name,
    address: Annotated[str, Option("--address", metavar="A", help="The address it sends from.", show_default=False)],
    alias: Annotated[
        list[str] | None, Option("--alias", metavar="A", help="Another address of it, or @domain. As often as needed.")
    ] = None,
    server: Annotated[
        str | None, Option(metavar="S", autocompletion=complete.servers, help="Default: the default server.")
    ] = None,
    override: Annotated[bool, Option("--override", help="Log in with its own account.")] = False,
    username: Annotated[str | None, Option(metavar="U", help="Its own account. Default: its address.")] = None,
    script: Annotated[
        str | None, Option(metavar="NAME", autocompletion=complete.scripts, help="The header rules of its mail.")
    ] = None,
    mode: Annotated[
        str | None,
        Option(
            metavar="M",
            autocompletion=complete.one_of(*complete.MODES),
            help="auto, direct or queued. Default: as in relay.toml.",
        ),
    ] = None,
    password_stdin: PasswordStdin = False,
    unchecked: Unchecked = False,
    as_json: AsJson = False,
) -> None:
    """Add a channel."""
    given = {
        "address": address,
        "aliases": alias,
        "server": server,
        "override": override,
        "username": username,
        "script": script,
        "mode": mode,
    }
    add_profile(
        context.obj, "channel", name, given, password_stdin=password_stdin, unchecked=unchecked, as_json=as_json
    )


register_reading(app, "channel", "support")
register_changing(app, "channel", "support")
register_test(app, "channel", "support")
register_authorize(app, "channel", "support")
