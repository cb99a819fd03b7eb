"""`relay sendmail`: here for the list of commands; `relay.cli.main` starts it without loading the other commands."""

from typer import Context, Exit, Typer


def register(app: Typer) -> None:
    """Add the command. Its options are sendmail's, which it reads itself."""
    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    app.command("sendmail", context_settings=settings, add_help_option=False)(sendmail)


def sendmail(context: Context) -> None:
    """Take a message on stdin, as sendmail(1) does."""
    from relay.sendmail.program import run

    raise Exit(run("relay sendmail", context.args))
