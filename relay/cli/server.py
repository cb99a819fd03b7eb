"""`relay server`: the upstream servers that profiles send through."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from typer import Context, Exit, Option

from relay.cli import complete
from relay.cli.entries import register_add, register_reading
from relay.cli.invocation import Invocation, WrongUsage
from relay.cli.output import count, print_json
from relay.cli.provider import (
    ClientId,
    Provider,
    Tenant,
    ask_for_app,
    ask_for_key,
    key_words,
    needs_app,
    oauth_values,
    preset_of,
)
from relay.cli.shared import (
    AsJson,
    Changes,
    Name,
    NoSend,
    PasswordStdin,
    Unchecked,
    ask_yes,
    command,
    is_person,
    noun,
    read_password,
    register_authorize,
    set_incoming_password,
    show_login,
    show_test,
)
from relay.control.json_values import from_json
from relay.control.refused import Refused
from relay.control.tests.results import PasswordKept

app = noun("Upstream servers: where mail leaves through.", "relay server list")


def add(
    context: Context,
    name: Name,
    given: Mapping[str, Any],
    provider: Provider = None,
    default: Annotated[bool, Option("--default", help="Profiles without a server of their own follow it.")] = False,
    client_id: ClientId = None,
    tenant: Tenant = None,
    password_stdin: PasswordStdin = False,
    unchecked: Unchecked = False,
    as_json: AsJson = False,
) -> None:
    """Add a server. The first one becomes the default."""
    if "host" not in given and provider is None:
        raise WrongUsage("give --host HOST or --provider P\nTry: relay server add --help")
    password = read_password(f"server {name}", from_stdin=True) if password_stdin else None
    values, is_asked = dict(given), is_person() and needs_app(provider)
    if is_asked:
        values["username"], client_id, tenant = ask_for_app(given.get("username"), client_id, tenant)
    elif provider is not None and is_person() and (key := key_words(provider)):
        values = ask_for_key(provider, given)
        password = password or read_password(f"server {name} (the {key})", from_stdin=False)
    record = context.obj.run(
        "server.add",
        name=name,
        values={**values, **oauth_values(client_id, tenant)},
        default=default,
        password=password,
        provider=provider,
        unchecked=unchecked,
    )
    if as_json:
        return print_json(record)
    print(f"server {record['name']} added{' as the default' if record['default'] else ''}")
    if provider is not None:
        print(f"{provider}: {preset_of(provider).note}")
    if record["auth"] not in {"none", "oauth2"} and not record["password_set"]:
        print(f"set its password with: {context.obj.hint(f'relay server password {name}')}")
    if record["oauth"] is not None and not record["oauth"]["client_id"]:
        way = context.obj.hint(f"relay server set {name} oauth.client_id=ID")
        print(f"register an app at the provider, and set its id with: {way}")
    if is_asked:
        return _make_ready(context.obj, name, record["username"])
    if record["auth"] == "oauth2" and record["username"] and not record["password_set"]:
        print(f"let it log in with: {context.obj.hint(f'relay server authorize {name}')}")
    return None


register_add(
    app,
    "server",
    "relay server add acmejets --host smtp.gmail.com \\\n      --username mailer@acmejets.example",
    add,
)


def _named(record: Mapping[str, Any]) -> str:
    return f"{record['name']} (default)" if record["default"] else str(record["name"])


def _login(record: Mapping[str, Any]) -> str:
    """Return how it logs in, and that the password of its own account is for another host where it is."""
    lacks = record["username"] and record["password_for_another"]
    return f"{record['auth']}, needs a password for {record['name']}" if lacks else str(record["auth"])


register_reading(
    app,
    "server",
    "acmejets",
    {
        "name": "name",
        "host": "host",
        "security": "security",
        "auth": "auth",
        "channels": "used_by_channels",
        "agents": "used_by_agents",
    },
    {"name": _named, "host": lambda record: f"{record['host']}:{record['port']}", "auth": _login},
    "List the servers and how many profiles use them.",
)


@command(app, "set", "relay server set acmejets max_connections=2 port=")
def set_(
    context: Context,
    name: Name,
    changes: Changes,
    keep_passwords: Annotated[
        bool, Option("--keep-passwords", help="With another host: the passwords that are set are for that one, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Change keys of a server. With another host, the passwords that are set for it count no more.

    A terminal shows whose these are, and asks first.
    """
    if is_person() and not keep_passwords:
        _say_entered_anew(context.obj, name, changes=changes)
    record = context.obj.run("server.set", name=name, changes=changes, keep_passwords=keep_passwords)
    if as_json:
        return print_json(record)
    print(f"server {name} changed")
    _print_entered_anew(context.obj, name)
    return None


@command(app, "remove", "relay server remove old --move-to acmejets")
def remove(
    context: Context,
    name: Name,
    move_to: Annotated[
        str | None,
        Option(
            "--move-to", metavar="SERVER", autocompletion=complete.servers, help="Where the profiles that use it go."
        ),
    ] = None,
) -> None:
    """Remove a server and its password. The default server cannot be removed.

    A terminal shows whose passwords are not for the server that they go to, and asks first.
    """
    if is_person() and move_to is not None:
        _say_entered_anew(context.obj, move_to, instead_of=name)
    result = context.obj.run("server.remove", name=name, move_to=move_to)
    moved = f"; {count(len(result['moved']), 'profile')} moved to {move_to}" if result["moved"] else ""
    print(f"server {name} removed{moved}")
    if move_to is not None:
        _print_entered_anew(context.obj, move_to)


@command(app, "default", "relay server default acmejets")
def default(
    context: Context,
    name: Name,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Say who would move and who would stay, and change nothing.")
    ] = False,
) -> None:
    """Make a server the default. Those that use the default server's account move; those with their own stay.

    A terminal shows who moves and who stays, and asks first.
    """
    known = context.obj.run("server.followers", name=name)
    if dry_run:
        return _print_followers(name, known, "would be")
    if is_person() and known["before"] != name and (known["followers"] or known["stay"]):
        _print_followers(name, known, "would be")
        _go_on()
        context.obj.run("server.default", name=name)
        return print(f"server {name} is the default")
    return _print_followers(name, context.obj.run("server.default", name=name), "is")


@command(app, "password", "relay server password acmejets")
def password(
    context: Context,
    name: Name,
    client_secret: Annotated[
        bool, Option("--client-secret", help="Set the secret of its OAuth client instead.")
    ] = False,
    incoming: Annotated[bool, Option("--incoming", help="Set the password of its mailbox instead.")] = False,
    password_stdin: PasswordStdin = False,
    unchecked: Unchecked = False,
) -> None:
    """Set the password of the server's own account. It is tried there first."""
    if client_secret and incoming:
        raise WrongUsage("give one of --client-secret and --incoming\nTry: relay server password --help")
    if incoming:
        return set_incoming_password(context.obj, "server", name, from_stdin=password_stdin)
    context.obj.run("server.show", name=name)
    if client_secret:
        value = read_password(f"the OAuth client of server {name}", from_stdin=password_stdin)
        context.obj.run("server.client_secret", name=name, secret=value)
        return print(f"the client secret of server {name} is set")
    value = read_password(f"server {name}", from_stdin=password_stdin)
    kept = context.obj.run("server.password", name=name, password=value, unchecked=unchecked)
    print(f"the password of server {name} is set")
    return show_login(from_json(PasswordKept, kept))


@command(app, "test", "relay server test acmejets --to me@example.org")
def try_out(
    context: Context,
    name: Name,
    to: Annotated[str, Option("--to", metavar="ADDRESS", help="Who receives the test message.", show_default=False)],
    no_send: NoSend = False,
    as_json: AsJson = False,
) -> None:
    """Log in at a server and send a test message, step by step."""
    is_good = show_test(context.obj, "server.test", as_json=as_json, name=name, to=to, send=not no_send)
    raise Exit(0 if is_good else 1)


register_authorize(app, "server", "acmejets")


def _make_ready(invocation: Invocation, name: str, username: str) -> None:
    """Take the secret of a new server's app, and look whether it lets us in; nothing is sent."""
    if not ask_yes("Does the app have a client secret (no: a certificate)", default=True):
        way = invocation.hint(f"relay server set {name} oauth.key_file=PATH")
        return print(f"name the file with its certificate and private key: {way}")
    secret = read_password(f"the app of server {name} (its client secret)", from_stdin=False)
    invocation.run("server.client_secret", name=name, secret=secret)
    is_good = show_test(invocation, "server.test", as_json=False, name=name, to=username, send=False)
    raise Exit(0 if is_good else 1)


def _print_entered_anew(invocation: Invocation, name: str) -> None:
    """Say whose password is for another server or host than it would go to now."""
    found = invocation.run("server.entered_anew", name=name)
    if found["server"]:
        print(
            f"its password was set for another host; set it again: {invocation.hint(f'relay server password {name}')}"
        )
    if found["profiles"]:
        print(f"passwords that were set for another server or host must be set anew: {_some(found['profiles'])}")


def _print_followers(name: str, known: dict[str, Any], verb: str) -> None:
    """Say who follows a default server, and who stays at the one before."""
    followers, stay = known["followers"], known["stay"]
    follows = "follows" if len(followers) == 1 else "follow"
    print(f"server {name} {verb} the default; {count(len(followers), 'profile')} {follows} it")
    if stay:
        whose = "1 profile with an account of its own stays"
        if len(stay) > 1:
            whose = f"{len(stay)} profiles with accounts of their own stay"
        print(f"{whose} at {known['before']}: {_some(stay)}")


def _say_entered_anew(invocation: Invocation, name: str, **change: Any) -> None:
    """Say before a change whose passwords would count no more at a server, and ask whether to go on."""
    before = invocation.run("server.entered_anew", name=name)
    after = invocation.run("server.entered_anew", name=name, **change)
    lost = ["the server's own account"] if after["server"] and not before["server"] else []
    lost += [one for one in after["profiles"] if one not in before["profiles"]]
    if lost:
        told = f"these passwords are for another server or host, and would have to be set anew: {_some(lost)}"
        print(told, file=sys.stderr)
        _go_on()


def _go_on() -> None:
    if not ask_yes("Go on?", default=False):
        raise Refused("nothing was changed")


def _some(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
