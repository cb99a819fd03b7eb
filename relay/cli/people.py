"""`relay admin` and `relay token`: the people who use the web pages, and with what programs come in to the API."""

from datetime import UTC, datetime
from typing import Annotated, Any

from typer import Context, Option

from relay.cli import complete
from relay.cli.invocation import WrongUsage
from relay.cli.output import moment, print_json, print_table, relative
from relay.cli.shared import AsJson, Name, PasswordStdin, command, is_person, noun, read_password
from relay.control.json_values import from_json, list_from_json
from relay.control.people.results import AddedPerson, AddedToken, FirstLink, InvitationLink, PersonRecord, TokenRecord

admin_app = noun("Administrators and viewers: people who use the web pages.", "relay admin list")
_PERSON = "ada"
_PROGRAM = "monitoring"


def _role(text: str, *, show_default: bool = True) -> Any:
    """Return the option of a role, with what it says there."""
    return Option(
        "--role", metavar="R", autocompletion=complete.one_of(*complete.ROLES), help=text, show_default=show_default
    )


@command(admin_app, "add", f"relay admin add {_PERSON} --link")
def add_person(
    context: Context,
    name: Name,
    role: Annotated[
        str,
        _role("administrator, or viewer, who may look and change nothing."),
    ] = "administrator",
    link: Annotated[
        bool, Option("--link", help="Print a one-time link, by which the password is set in the browser.")
    ] = False,
    password_stdin: PasswordStdin = False,
) -> None:
    """Add somebody who signs in to the pages. The password is asked for twice, or read from stdin."""
    if link and password_stdin:
        raise WrongUsage("give one of --link and --password-stdin\nTry: relay admin add --help")
    if not link and not password_stdin and not is_person():
        raise WrongUsage("stdin is no terminal, so nobody can be asked; use --password-stdin or --link")
    password = None if link else read_password(f"{role} {name}", from_stdin=password_stdin)
    added = from_json(AddedPerson, context.obj.run("admin.add", name=name, role=role, password=password))
    print(f"{role} {name} added")
    if added.url is not None:
        _print_link(added.url)


@command(admin_app, "list", "relay admin list --json")
def list_people(context: Context, as_json: AsJson = False) -> None:
    """List the administrators and viewers."""
    answer = context.obj.run("admin.list")
    if as_json:
        return print_json(answer)
    now = datetime.now(UTC)
    rows = [
        [one.name, one.role, relative(moment(one.created), now), _password(one)]
        for one in list_from_json(PersonRecord, answer)
    ]
    return print_table(("name", "role", "added", "password"), rows, empty="there is no administrator yet")


@command(admin_app, "set", f"relay admin set {_PERSON} --role viewer")
def set_(
    context: Context,
    name: Name,
    role: Annotated[
        str,
        _role("administrator or viewer.", show_default=False),
    ],
) -> None:
    """Change somebody's role."""
    context.obj.run("admin.set", name=name, role=role)
    print(f"{name} is {'an' if role[:1] == 'a' else 'a'} {role} now")


@command(admin_app, "password", f"relay admin password {_PERSON}")
def password(
    context: Context,
    name: Name,
    link: Annotated[bool, Option("--link", help="Print a one-time link, by which it is set in the browser.")] = False,
    password_stdin: PasswordStdin = False,
) -> None:
    """Set somebody's password. It is asked for twice, or read from stdin."""
    if link and password_stdin:
        raise WrongUsage("give one of --link and --password-stdin\nTry: relay admin password --help")
    if link:
        return _print_link(from_json(InvitationLink, context.obj.run("admin.invite", name=name)).url)
    context.obj.run("admin.password", name=name, password=read_password(name, from_stdin=password_stdin))
    return print(f"the password of {name} is set")


@command(admin_app, "link", "relay admin link")
def link(context: Context) -> None:
    """Print a one-time link that makes the first administrator. It is good for 24 hours."""
    url = from_json(FirstLink, context.obj.run("admin.link")).url
    print(f"this address makes an administrator, once and within 24 hours: {url}")


@command(admin_app, "remove", f"relay admin remove {_PERSON}")
def remove_person(context: Context, name: Name) -> None:
    """Remove somebody, who is signed out at once. The last administrator stays."""
    context.obj.run("admin.remove", name=name)
    print(f"{name} removed")


def _print_link(url: str) -> None:
    print(f"the password is set at this address, once and within 24 hours: {url}")


def _password(person: PersonRecord) -> str:
    return "set" if person.password_set else "missing"


token_app = noun("Tokens: with what programs come in to the API.", "relay token list")


@command(token_app, "add", f"relay token add {_PROGRAM}")
def add_token(
    context: Context,
    name: Name,
    role: Annotated[
        str,
        _role("viewer, which may look and change nothing, or administrator."),
    ] = "viewer",
    as_json: AsJson = False,
) -> None:
    """Add a token, and print it: this once, nobody can look it up later."""
    answer = context.obj.run("token.add", name=name, role=role)
    print_json(answer) if as_json else print(from_json(AddedToken, answer).token)


@command(token_app, "list", "relay token list --json")
def list_tokens(context: Context, as_json: AsJson = False) -> None:
    """List the tokens by their names."""
    answer = context.obj.run("token.list")
    if as_json:
        return print_json(answer)
    now = datetime.now(UTC)
    rows = [
        [
            one.name,
            one.role,
            relative(moment(one.created), now),
            relative(moment(one.used), now) if one.used else "never",
        ]
        for one in list_from_json(TokenRecord, answer)
    ]
    return print_table(("name", "role", "added", "used"), rows, empty="there is no token yet")


@command(token_app, "remove", f"relay token remove {_PROGRAM}")
def remove_token(context: Context, name: Name) -> None:
    """Remove a token, which lets nobody in from now on."""
    context.obj.run("token.remove", name=name)
    print(f"token {name} removed")
