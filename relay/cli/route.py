"""`relay route`: how mail of a sender would leave, and why. Sends nothing."""

from typing import Annotated

from typer import Argument, Context, Option, Typer

from relay.cli import complete
from relay.cli.options import AsJson, command
from relay.cli.output import print_json, print_record, words
from relay.mail.encoded_words import decode_words


def register(app: Typer) -> None:
    """Add the command."""
    command(app, "route", "relay route support@acmejets.example --from 'Jane <jane@acmejets.example>'")(route)


def route(
    context: Context,
    sender: Annotated[
        str, Argument(metavar="SENDER", help="The envelope sender; '<>' is the null sender.", show_default=False)
    ],
    from_header: Annotated[
        str | None, Option("--from", metavar="HEADER", help="The From header. Default: the sender.")
    ] = None,
    login: Annotated[
        str | None,
        Option(
            "--login",
            metavar="NAME",
            autocompletion=complete.logins,
            help="As the client with this login. Default: a client without.",
        ),
    ] = None,
    to: Annotated[
        str | None, Option("--to", metavar="ADDR", help="The recipient; the bounce of a mail server leaves by it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain how mail of a sender would leave, and why. Exit code 1 when it would be refused."""
    result = context.obj.run("route", sender=sender, from_header=from_header, login=login, to=to)
    if as_json:
        return print_json(result)
    shown = result | {"from": decode_words(result["from"])}  # as a reader's program shows it
    return print_record({key.replace("_", "-"): words(value) for key, value in shown.items()})
