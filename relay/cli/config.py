"""`relay config`: the settings in effect."""

from typer import Context

from relay.cli.options import AsJson, command, noun
from relay.cli.output import print_json

app = noun("Settings: what relay.toml and its defaults come to.", "relay config show")


@command(app, "show", "relay config show")
def show(context: Context, as_json: AsJson = False) -> None:
    """Show every setting as it is in effect, with secrets masked."""
    from relay.config.settings import shown_table

    session = context.obj
    table = shown_table(session.settings)
    if as_json:
        return print_json(table)
    from tomli_w import dumps

    print(f"# {session.settings_file or 'no settings file; these are the defaults'}")
    return print(dumps(table), end="")
