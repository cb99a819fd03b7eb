"""The verbs that channels and agents have in common. `kind` is "channel" or "agent"."""

from collections.abc import Mapping
from typing import Annotated, Any

from typer import Argument, Context, Exit, Option, Typer

from relay.cli import complete
from relay.cli.ask import read_password
from relay.cli.output import print_json, print_record, print_table, words
from relay.cli.session import Session, WrongUsage
from relay.cli.shared import (
    AsJson,
    Changes,
    Name,
    NoSend,
    PasswordStdin,
    Unchecked,
    command,
    login_cell,
    set_incoming_password,
    set_login_password,
    show_login,
    show_test,
)
from relay.control.json_values import from_json
from relay.control.tests.results import PasswordKept

# The columns of a list, and the key of the record that each one shows.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "channel": {"name": "name", "address": "address", "server": "resolved_server", "override": "override"},
    "agent": {
        "name": "name",
        "address": "address",
        "server": "resolved_server",
        "override": "override",
        "group": "group",
        "role": "role",
    },
}

_SECRETS: Mapping[str, str] = {"password": "password_set", "login": "login_set"}


def add_profile(
    session: Session,
    kind: str,
    name: str,
    given: Mapping[str, Any],
    *,
    password_stdin: bool,
    unchecked: bool,
    as_json: bool,
) -> None:
    """Add a channel or agent with the values that were given, and say what is left to do."""
    password = read_password(f"{kind} {name}", from_stdin=True) if password_stdin else None
    values = {key: value for key, value in given.items() if value not in (None, [], False)}
    record = session.run(f"{kind}.add", name=name, values=values, password=password, unchecked=unchecked)
    if as_json:
        return print_json(record)
    server = shown_server(record)
    print(f"{kind} {name} added; " + (f"it sends through {server}" if server else "there is no server yet"))
    if record["override"] and not record["password_set"]:
        print(_next_step(session, kind, record))
    return None


def _next_step(session: Session, kind: str, record: Mapping[str, Any]) -> str:
    name, server = record["name"], record["resolved_server"]
    if server is not None and session.run("server.show", name=server)["auth"] == "oauth2":
        return f"let it log in with: {session.hint(f'relay {kind} authorize {name}')}"
    return f"set its email password with: {session.hint(f'relay {kind} password {name}')}"


def shown_server(record: Mapping[str, Any]) -> str:
    """Return the server that a profile sends through as people read it: "acmejets (default)" where it follows."""
    resolved = record["resolved_server"] or ""
    return f"{resolved} (default)" if resolved and record["server"] is None else resolved


def register_reading(app: Typer, kind: str, example: str) -> None:
    """Add the verbs list and show."""
    columns = COLUMNS[kind]

    @command(
        app, "list", f"relay {kind} list --sort server", f"List the {kind}s and the server that each sends through."
    )
    def list_(
        context: Context,
        sort: Annotated[
            str,
            Option(
                "--sort",
                metavar="C",
                autocompletion=complete.one_of(*columns, *_SECRETS),
                help=f"By a column: {', '.join(columns)}, password, login.",
            ),
        ] = "name",
        contains: Annotated[str, Option("--filter", metavar="TEXT", help="Only those with this text in them.")] = "",
        as_json: AsJson = False,
    ) -> None:
        records = context.obj.run(f"{kind}.list", sort={**columns, **_SECRETS}.get(sort, sort), contains=contains)
        if as_json:
            return print_json(records)
        empty = f"no {kind} has {contains!r} in it" if contains else f"there is no {kind} yet"
        return print_table([*columns, *_SECRETS], [_row(record, columns) for record in records], empty=empty)

    @command(app, "show", f"relay {kind} show {example}", f"Show one {kind} with all its keys.")
    def show(context: Context, name: Name, as_json: AsJson = False) -> None:
        record = context.obj.run(f"{kind}.show", name=name)
        if as_json:
            return print_json(record)
        return print_record({key: words(value) for key, value in record.items()})


def register_changing(app: Typer, kind: str, example: str) -> None:
    """Add the verbs set, remove and password."""

    @command(app, "set", f"relay {kind} set {example} server=acmejets script=", f"Change keys of one {kind}.")
    def set_(context: Context, name: Name, changes: Changes, as_json: AsJson = False) -> None:
        record = context.obj.run(f"{kind}.set", name=name, changes=changes)
        if as_json:
            return print_json(record)
        print(f"{kind} {name} changed")
        if record["password_for_another"] and record["override"]:
            way = context.obj.hint(f"relay {kind} password {name}")
            print(f"its password was set for another server; set the one for {record['resolved_server']}: {way}")
        return None

    @command(app, "remove", f"relay {kind} remove {example}", f"Remove one {kind} and its passwords.")
    def remove(context: Context, name: Name) -> None:
        context.obj.run(f"{kind}.remove", name=name)
        print(f"{kind} {name} removed")

    @command(
        app,
        "password",
        f"relay {kind} password {example}",
        "Set the email password, with which mail logs in at the server. "
        "It is tried there first. It is asked for twice, or read from stdin.",
    )
    def password(
        context: Context,
        name: Name,
        login: Annotated[
            bool, Option("--login", help="Set the password with which it logs in at Relay instead.")
        ] = False,
        incoming: Annotated[
            bool, Option("--incoming", help="Set the password of its mailbox, where mail arrives, instead.")
        ] = False,
        password_stdin: PasswordStdin = False,
        unchecked: Unchecked = False,
    ) -> None:
        if login and incoming:
            raise WrongUsage(f"give one of --login and --incoming\nTry: relay {kind} password --help")
        if incoming:
            set_incoming_password(context.obj, kind, name, from_stdin=password_stdin)
        elif login:
            set_login_password(context.obj, kind, name, f"{kind}.login", from_stdin=password_stdin)
        else:
            _set_email_password(context.obj, kind, name, from_stdin=password_stdin, unchecked=unchecked)


def register_test(app: Typer, kind: str, example: str) -> None:
    """Add the verb test."""

    @command(
        app,
        "test",
        f"relay {kind} test {example} --to me@example.org",
        f"Send a test message as one {kind} does, step by step.",
    )
    def try_out(
        context: Context,
        name: Annotated[str, Argument(metavar="NAME", autocompletion=complete.names, show_default=False)],
        to: Annotated[
            str | None, Option("--to", metavar="ADDRESS", help="Who receives it. Default: its own address.")
        ] = None,
        no_send: NoSend = False,
        round_trip: Annotated[
            bool, Option("--round-trip", help="Look for it in the mailbox where it arrives, and say what was seen.")
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        params = {"name": name, "to": to, "send": not no_send, "round_trip": round_trip}
        is_good = show_test(context.obj, f"{kind}.test", as_json=as_json, **params)
        raise Exit(0 if is_good else 1)


def _set_email_password(session: Session, kind: str, name: str, *, from_stdin: bool, unchecked: bool) -> None:
    record = session.run(f"{kind}.show", name=name)
    value = read_password(f"{kind} {name}", from_stdin=from_stdin)
    kept = session.run(f"{kind}.password", name=name, password=value, unchecked=unchecked)
    print(f"the email password of {kind} {name} is set")
    show_login(from_json(PasswordKept, kept))
    if not record["override"]:
        print(f"it is used once this is done: {session.hint(f'relay {kind} set {name} override=true')}")


def _row(record: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    cells = {key: words(record[key]) for key in columns.values()} | {"resolved_server": shown_server(record)}
    return [*[cells[key] for key in columns.values()], _password(record), login_cell(record)]


def _password(record: Mapping[str, Any]) -> str:
    if record["password_set"]:
        return "set"
    if record["override"] and record["password_for_another"]:
        return f"needs a password for {record['resolved_server']}"
    return "missing" if record["override"] else ""
