"""`relay application`: software that logs in and sends as several channels and agents."""

from typing import Annotated

from typer import Context, Option

from relay.cli import complete
from relay.cli.ask import read_password
from relay.cli.output import print_json, print_record, print_table, words
from relay.cli.shared import (
    AsJson,
    Changes,
    Name,
    PasswordStdin,
    command,
    login_cell,
    noun,
    separated,
    set_login_password,
)

app = noun("Applications: software that logs in to send as others.", "relay application list")
_EXAMPLE = "contact-center"


@command(app, "add", f"relay application add {_EXAMPLE} --may-send-as support,group:sales")
def add(
    context: Context,
    name: Name,
    may_send_as: Annotated[
        str,
        Option(
            "--may-send-as",
            metavar="LIST",
            help="As whom it sends: names, group:NAME or *, separated by commas.",
            show_default=False,
        ),
    ],
    bounces: Annotated[
        str | None,
        Option(
            "--bounces",
            metavar="NAME",
            autocompletion=complete.profiles,
            help="For a mail server: the channel or agent from which its bounces leave.",
        ),
    ] = None,
    password_stdin: PasswordStdin = False,
    as_json: AsJson = False,
) -> None:
    """Add an application."""
    password = read_password(f"application {name}", from_stdin=True) if password_stdin else None
    values = {"may_send_as": separated(may_send_as)} | ({} if bounces is None else {"bounces": bounces})
    record = context.obj.run("application.add", name=name, values=values, password=password)
    if as_json:
        return print_json(record)
    print(f"application {name} added")
    if password is None:
        print(f"set the password with which it logs in: {context.obj.hint(f'relay application password {name}')}")
    return None


@command(app, "list", "relay application list")
def list_(context: Context, as_json: AsJson = False) -> None:
    """List the applications and as whom each may send."""
    records = context.obj.run("application.list")
    if as_json:
        return print_json(records)
    rows = [[record["name"], words(record["may_send_as"]), login_cell(record)] for record in records]
    return print_table(("name", "may send as", "login"), rows, empty="there is no application yet")


@command(app, "show", f"relay application show {_EXAMPLE}")
def show(context: Context, name: Name, as_json: AsJson = False) -> None:
    """Show one application with all its keys."""
    record = context.obj.run("application.show", name=name)
    if as_json:
        return print_json(record)
    return print_record({key: words(value) for key, value in record.items()})


@command(app, "set", f"relay application set {_EXAMPLE} 'may_send_as=*'")
def set_(context: Context, name: Name, changes: Changes, as_json: AsJson = False) -> None:
    """Change keys of one application."""
    record = context.obj.run("application.set", name=name, changes=changes)
    if as_json:
        return print_json(record)
    print(f"application {name} changed")
    return None


@command(app, "remove", f"relay application remove {_EXAMPLE}")
def remove(context: Context, name: Name) -> None:
    """Remove one application and its login password."""
    context.obj.run("application.remove", name=name)
    print(f"application {name} removed")


@command(app, "password", f"relay application password {_EXAMPLE}")
def password(context: Context, name: Name, password_stdin: PasswordStdin = False) -> None:
    """Set the password with which it logs in at Relay. It is asked for twice, or read from stdin."""
    set_login_password(context.obj, "application", name, "application.password", from_stdin=password_stdin)
