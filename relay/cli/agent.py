"""`relay agent`: the people who send."""

import sys
from typing import Annotated
from urllib.parse import urlsplit

from typer import Context, Option

from relay.cli import complete
from relay.cli.output import print_json
from relay.cli.profiles import add_profile, register_changing, register_reading, register_test
from relay.cli.shared import AsJson, Name, PasswordStdin, Unchecked, command, noun, register_authorize, separated
from relay.control.json_values import from_json
from relay.control.people.results import InvitationLink

app = noun("Agents: people who send with an address of their own.", "relay agent list")


@command(app, "add", "relay agent add jane --address jane@acmejets.example --override")
def add(
    context: Context,
    name: Name,
    address: Annotated[str, Option("--address", metavar="A", help="The address of the agent.", show_default=False)],
    alias: Annotated[
        list[str] | None, Option("--alias", metavar="A", help="Another address, or @domain. As often as needed.")
    ] = None,
    server: Annotated[
        str | None, Option(metavar="S", autocompletion=complete.servers, help="Default: the default server.")
    ] = None,
    override: Annotated[bool, Option("--override", help="Log in with the agent's own account.")] = False,
    username: Annotated[str | None, Option(metavar="U", help="That account. Default: the address.")] = None,
    script: Annotated[
        str | None,
        Option(metavar="NAME", autocompletion=complete.scripts, help="The header rules of the agent's mail."),
    ] = None,
    mode: Annotated[
        str | None,
        Option(
            metavar="M",
            autocompletion=complete.one_of(*complete.MODES),
            help="auto, direct or queued. Default: as in relay.toml.",
        ),
    ] = None,
    full_name: Annotated[str | None, Option("--full-name", metavar="TEXT", help="As people write it.")] = None,
    group: Annotated[str | None, Option(metavar="TEXT", help="The group the agent belongs to.")] = None,
    role: Annotated[str | None, Option(metavar="TEXT", help="What the agent does.")] = None,
    country: Annotated[str | None, Option(metavar="TEXT", help="Where the agent is.")] = None,
    language: Annotated[str | None, Option(metavar="TEXT", help="What the agent speaks.")] = None,
    may_send_as: Annotated[
        str, Option("--may-send-as", metavar="LIST", help="As whom else this login sends: names, group:NAME or *.")
    ] = "",
    password_stdin: PasswordStdin = False,
    unchecked: Unchecked = False,
    as_json: AsJson = False,
) -> None:
    """Add an agent."""
    given = {
        "address": address,
        "aliases": alias,
        "server": server,
        "override": override,
        "username": username,
        "script": script,
        "mode": mode,
        "full_name": full_name,
        "group": group,
        "role": role,
        "country": country,
        "language": language,
        "may_send_as": separated(may_send_as),
    }
    add_profile(context.obj, "agent", name, given, password_stdin=password_stdin, unchecked=unchecked, as_json=as_json)


@command(app, "invite", "relay agent invite jane")
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


register_reading(app, "agent", "jane")
register_changing(app, "agent", "jane")
register_test(app, "agent", "jane")
register_authorize(app, "agent", "jane")
