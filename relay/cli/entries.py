"""The verbs that the nouns of the directory have in common, and the commands of channels, agents and applications.

The options of `add` are made from the keys of the noun (`relay.directory.kinds`), when somebody asks for that command:
no other one waits until the model is loaded.
"""

import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, ClassVar, TypeAlias
from urllib.parse import urlsplit

from typer import Argument, Context, Exit, Option, Typer
from typer.core import TyperCommand
from typer.main import get_command_from_info
from typer.models import CommandInfo

from relay.cli import complete
from relay.cli.invocation import Invocation, WrongUsage
from relay.cli.output import print_json, print_record, print_table, words
from relay.cli.shared import (
    AsJson,
    Changes,
    Name,
    NoSend,
    PasswordStdin,
    Unchecked,
    command,
    noun,
    read_password,
    register_authorize,
    separated,
    set_incoming_password,
    set_login_password,
    show_login,
    show_test,
)
from relay.control.json_values import from_json
from relay.control.people.results import InvitationLink
from relay.control.tests.results import PasswordKept

Add: TypeAlias = Callable[..., None]
Cells: TypeAlias = Mapping[str, Callable[[Mapping[str, Any]], str]]

# A list that is written as an option for each of its items; the others are one text with commas.
_ONE_BY_ONE: Mapping[str, str] = {"aliases": "--alias"}
# What the tab key offers for a key that names an entry.
_OFFERED = {"server": complete.servers, "script": complete.scripts, "bounces": complete.profiles}


class AddCommand(TyperCommand):
    """The command `add` of a noun, which is made when its options are looked at."""

    make: ClassVar[Callable[[], TyperCommand]]

    @cached_property
    def _made(self) -> TyperCommand:
        return type(self).make()

    @property
    def params(self) -> Any:
        """The options and arguments."""
        return self._made.params

    @params.setter
    def params(self, value: Any) -> None:
        """Typer gives those of the stand-in, which has none."""

    @property
    def callback(self) -> Any:
        """What is run."""
        return self._made.callback

    @callback.setter
    def callback(self, value: Any) -> None:
        """Typer gives the stand-in."""


def register_add(app: Typer, word: str, example: str, add: Add) -> None:
    """Add the verb `add`. The function gets as `given` what was said of the noun's keys, and its own options."""
    help_ = add.__doc__

    def make() -> TyperCommand:
        made = get_command_from_info(
            CommandInfo("add", callback=_with_options(word, add), help=help_),
            pretty_exceptions_short=False,
            rich_markup_mode=None,
        )
        assert isinstance(made, TyperCommand)
        return made

    def stand_in() -> None:
        """Be the command until somebody looks at it."""

    cls = type("AddCommand", (AddCommand,), {"make": staticmethod(make)})
    command(app, "add", example, help_, cls=cls)(stand_in)


def _with_options(word: str, add: Add) -> Callable[..., None]:
    """Return a function with the parameters of another, and an option for each key of a noun behind the name."""
    from relay.directory.kinds import KINDS

    kind = KINDS[word]
    options = [_option(kind, key) for key in kind.options]
    own = signature(add, eval_str=True).parameters.values()
    context, name, *others = (one for one in own if one.name != "given")

    def run(**params: Any) -> None:
        values = {key: params.pop(key) for key in kind.options}
        given = {key: _listed(key, value) for key, value in values.items() if value not in (None, [], False, "")}
        add(**params, given=given)

    made = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in (context, name, *options, *others)]
    run.__signature__ = Signature(made)  # type: ignore[attr-defined]
    return run


def _option(kind: Any, key: str) -> Parameter:
    from relay.config.schema import meanings_of
    from relay.directory.tables import is_needed

    flag = _ONE_BY_ONE.get(key, f"--{key.replace('_', '-')}")
    meaning = meanings_of(kind.model)[key]
    values = complete.words_of(kind.model, key)
    if values == complete.BOOLEANS:
        return _parameter(key, bool, Option(flag, help=meaning), default=False)
    help_ = f"{', '.join(values[:-1])} or {values[-1]}. {meaning}" if values else meaning
    offered = complete.one_of(*values) if values else _OFFERED.get(key)
    must = is_needed(kind.model, key) or key in kind.needed
    said = Option(flag, metavar=_metavar(kind.model, key), help=help_, autocompletion=offered, show_default=False)
    if key in _ONE_BY_ONE:
        return _parameter(key, list[str] | None, said, default=None)
    type_: Any = int if _metavar(kind.model, key) == "N" else str
    return _parameter(key, type_, said) if must else _parameter(key, type_ | None, said, default=None)


def _parameter(key: str, type_: Any, said: Any, *, default: Any = Parameter.empty) -> Parameter:
    return Parameter(key, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[type_, said])


def _metavar(model: type, key: str) -> str:
    from relay.directory.tables import hint_of, plain_type

    hint = plain_type(hint_of(model, key))
    if hint is int:
        return "N"
    return "LIST" if getattr(hint, "__origin__", None) is tuple and key not in _ONE_BY_ONE else "TEXT"


def _listed(key: str, value: Any) -> Any:
    """Return a text with commas as the list that it means."""
    return separated(value) if key == "may_send_as" else value


def register_reading(app: Typer, word: str, example: str, columns: Mapping[str, str], cells: Cells, about: str) -> None:
    """Add the verbs list and show. `columns` are the heads of a list with the key of a record that each one shows."""

    @command(app, "list", f"relay {word} list --sort {list(columns)[-1]}", about)
    def list_(
        context: Context,
        sort: Annotated[
            str,
            Option(
                "--sort",
                metavar="C",
                autocompletion=complete.one_of(*columns),
                help=f"By a column: {', '.join(columns)}.",
            ),
        ] = "name",
        contains: Annotated[str, Option("--filter", metavar="TEXT", help="Only those with this text in them.")] = "",
        as_json: AsJson = False,
    ) -> None:
        records = context.obj.run(f"{word}.list", sort=columns.get(sort, sort), contains=contains)
        if as_json:
            return print_json(records)
        empty = f"no {word} has {contains!r} in it" if contains else f"there is no {word} yet"
        rows = [[cells.get(key, _cell(key))(record) for key in columns.values()] for record in records]
        return print_table([*columns], rows, empty=empty)

    @command(app, "show", f"relay {word} show {example}", f"Show one {word} with all its keys.")
    def show(context: Context, name: Name, as_json: AsJson = False) -> None:
        record = context.obj.run(f"{word}.show", name=name)
        if as_json:
            return print_json(record)
        return print_record({key: words(value) for key, value in record.items()})


def _cell(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda record: words(record[key])


def register_changing(app: Typer, word: str, example: str, changes: str, about: str) -> None:
    """Add the verbs set and remove. `changes` are those of the example, `about` is what goes with an entry."""

    @command(app, "set", f"relay {word} set {example} {changes}", f"Change keys of one {word}.")
    def set_(context: Context, name: Name, changes: Changes, as_json: AsJson = False) -> None:
        record = context.obj.run(f"{word}.set", name=name, changes=changes)
        if as_json:
            return print_json(record)
        print(f"{word} {name} changed")
        if record.get("password_for_another") and record["override"]:
            way = context.obj.hint(f"relay {word} password {name}")
            print(f"its password was set for another server; set the one for {record['resolved_server']}: {way}")
        return None

    @command(app, "remove", f"relay {word} remove {example}", f"Remove one {word} and {about}.")
    def remove(context: Context, name: Name) -> None:
        context.obj.run(f"{word}.remove", name=name)
        print(f"{word} {name} removed")


def _profile(word: str, example: str, columns: Mapping[str, str], what: str) -> Typer:
    """Return the commands of channels or of agents."""
    app = noun(what, f"relay {word} list")

    def add(
        context: Context,
        name: Name,
        given: Mapping[str, Any],
        password_stdin: PasswordStdin = False,
        unchecked: Unchecked = False,
        as_json: AsJson = False,
    ) -> None:
        invocation: Invocation = context.obj
        password = read_password(f"{word} {name}", from_stdin=True) if password_stdin else None
        record = invocation.run(f"{word}.add", name=name, values=given, password=password, unchecked=unchecked)
        if as_json:
            return print_json(record)
        server = shown_server(record)
        print(f"{word} {name} added; " + (f"it sends through {server}" if server else "there is no server yet"))
        if record["override"] and not record["password_set"]:
            print(_next_step(invocation, word, record))
        return None

    add.__doc__ = f"Add {'an' if word[0] in 'aeiou' else 'a'} {word}."
    register_add(app, word, f"relay {word} add {example} --address {example}@acmejets.example", add)
    heads = {**columns, "password": "password_set", "login": "login_set"}
    cells: Cells = {"resolved_server": shown_server, "password_set": _password, "login_set": _login}
    about = f"List the {word}s and the server that each sends through."
    register_reading(app, word, example, heads, cells, about)
    register_changing(app, word, example, "server=acmejets script=", "its passwords")
    _register_passwords(app, word, example)
    _register_test(app, word, example)
    register_authorize(app, word, example)
    return app


def _next_step(invocation: Invocation, word: str, record: Mapping[str, Any]) -> str:
    name, server = record["name"], record["resolved_server"]
    if server is not None and invocation.run("server.show", name=server)["auth"] == "oauth2":
        return f"let it log in with: {invocation.hint(f'relay {word} authorize {name}')}"
    return f"set its email password with: {invocation.hint(f'relay {word} password {name}')}"


def shown_server(record: Mapping[str, Any]) -> str:
    """Return the server that a profile sends through as people read it: "acmejets (default)" where it follows."""
    resolved = record["resolved_server"] or ""
    return f"{resolved} (default)" if resolved and record["server"] is None else resolved


def _password(record: Mapping[str, Any]) -> str:
    if record["password_set"]:
        return "set"
    if record["override"] and record["password_for_another"]:
        return f"needs a password for {record['resolved_server']}"
    return "missing" if record["override"] else ""


def _login(record: Mapping[str, Any]) -> str:
    return "set" if record["login_set"] else ""


def _register_passwords(app: Typer, word: str, example: str) -> None:
    """Add the verb password, for the three passwords of a channel or agent."""

    @command(
        app,
        "password",
        f"relay {word} password {example}",
        "Set the email password, with which mail logs in at the server. "
        "It is tried there first. It is asked for twice, or read from stdin.",
    )
    def password(
        context: Context,
        name: Name,
        login: Annotated[bool, Option("--login", help="Set the password used to log in at Relay instead.")] = False,
        incoming: Annotated[
            bool, Option("--incoming", help="Set the password of its mailbox, where mail arrives, instead.")
        ] = False,
        password_stdin: PasswordStdin = False,
        unchecked: Unchecked = False,
    ) -> None:
        if login and incoming:
            raise WrongUsage(f"give one of --login and --incoming\nTry: relay {word} password --help")
        if incoming:
            set_incoming_password(context.obj, word, name, from_stdin=password_stdin)
        elif login:
            set_login_password(context.obj, word, name, f"{word}.login", from_stdin=password_stdin)
        else:
            _set_email_password(context.obj, word, name, from_stdin=password_stdin, unchecked=unchecked)


def _set_email_password(invocation: Invocation, word: str, name: str, *, from_stdin: bool, unchecked: bool) -> None:
    record = invocation.run(f"{word}.show", name=name)
    value = read_password(f"{word} {name}", from_stdin=from_stdin)
    kept = invocation.run(f"{word}.password", name=name, password=value, unchecked=unchecked)
    print(f"the email password of {word} {name} is set")
    show_login(from_json(PasswordKept, kept))
    if not record["override"]:
        print(f"it is used once this is done: {invocation.hint(f'relay {word} set {name} override=true')}")


def _register_test(app: Typer, word: str, example: str) -> None:
    """Add the verb test."""

    @command(
        app,
        "test",
        f"relay {word} test {example} --to me@example.org",
        f"Send a test message as one {word} does, step by step.",
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
        is_good = show_test(context.obj, f"{word}.test", as_json=as_json, **params)
        raise Exit(0 if is_good else 1)


def _application(word: str, example: str) -> Typer:
    """Return the commands of applications."""
    app = noun("Applications: software that logs in to send as others.", "relay application list")

    def add(
        context: Context,
        name: Name,
        given: Mapping[str, Any],
        password_stdin: PasswordStdin = False,
        as_json: AsJson = False,
    ) -> None:
        """Add an application."""
        password = read_password(f"application {name}", from_stdin=True) if password_stdin else None
        record = context.obj.run("application.add", name=name, values=given, password=password)
        if as_json:
            return print_json(record)
        print(f"application {name} added")
        if password is None:
            way = context.obj.hint(f"relay application password {name}")
            print(f"set the password used to log in: {way}")
        return None

    register_add(app, word, f"relay application add {example} --may-send-as support,group:sales", add)
    heads = {"name": "name", "may send as": "may_send_as", "login": "login_set"}
    about = "List the applications and as whom each may send."
    register_reading(app, word, example, heads, {"login_set": _login}, about)
    register_changing(app, word, example, "'may_send_as=*'", "its login password")

    @command(app, "password", f"relay application password {example}")
    def password(context: Context, name: Name, password_stdin: PasswordStdin = False) -> None:
        """Set the password used to log in at Relay. It is asked for twice, or read from stdin."""
        set_login_password(context.obj, "application", name, "application.password", from_stdin=password_stdin)

    return app


_SENDING = {"name": "name", "address": "address", "server": "resolved_server", "override": "override"}
channel_app = _profile("channel", "support", _SENDING, "Channels: shared sending addresses.")
agent_app = _profile(
    "agent",
    "jane",
    {**_SENDING, "group": "group", "role": "role"},
    "Agents: people who send with an address of their own.",
)
application_app = _application("application", "contact-center")


@command(agent_app, "invite", "relay agent invite jane")
def invite(context: Context, name: Name, as_json: AsJson = False) -> None:
    """Print a one-time link to the agent's own page."""
    answer = context.obj.run("agent.invite", name=name)
    if as_json:
        return print_json(answer)
    print(f"agent {name} sets its passwords at this address, once and within 24 hours:", file=sys.stderr)
    url = from_json(InvitationLink, answer).url
    print(url)
    from relay.directory.rules.servers import is_loopback

    if is_loopback(urlsplit(url).hostname or ""):
        sentence = (
            "it works on this machine alone; for others set public_url under [web] in relay.toml, and invite again"
        )
        print(sentence, file=sys.stderr)
    return None
