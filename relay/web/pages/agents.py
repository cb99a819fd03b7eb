"""The pages of agents: the list, the form, and what is done with them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from relay.directory.model import Agent
from relay.secrets.login_password import prepare
from relay.web.authorization import authorizing_routes
from relay.web.kit.entry_editing import Noun, Record, editing_routes, noun_page, save_password
from relay.web.kit.forms import Choice, Field, Group
from relay.web.kit.lists import Column, Listing, chosen_columns, columns_route
from relay.web.kit.page_request import PageRequest, page
from relay.web.kit.site import Site
from relay.web.pages import profile_tests
from relay.web.pages.account_troubles import troubles_of
from relay.web.pages.invitations import invitation_routes
from relay.web.pages.outgoing_fields import dropped_override, outgoing_faults, outgoing_group

_PATH = "/agents"
_COLUMNS = (
    Column("name", "Name"),
    Column("full_name", "Full name", is_optional=True),
    Column("address", "Address", is_optional=True),
    Column("resolved_server", "Outgoing mail server", is_optional=True),
    Column("group", "Group", is_optional=True),
    Column("role", "Role", is_optional=True),
    Column("country", "Country", is_optional=True),
    Column("language", "Language", is_optional=True),
    Column("override", "Override", is_optional=True),
    Column("password_set", "Email password", is_optional=True),
    Column("login_set", "Login", is_optional=True),
)
_AT_FIRST = ("full_name", "address", "group", "role", "password_set", "login_set")
_FILTERS = ("group", "role", "server", "password")


def routes(site: Site) -> list[Route]:
    """Return the routes of agents."""
    return [
        page(_PATH, site, get=_list),
        columns_route(site, _PATH, _COLUMNS),
        *invitation_routes(site),
        page(f"{_NOUN.path}/-/test", site, post=noun_page(profile_tests.test, _NOUN)),
        *editing_routes(_NOUN, site),
        page(f"{_PATH}/{{name}}/test", site, post=noun_page(profile_tests.test, _NOUN)),
        *authorizing_routes(site, "agent", _PATH),
    ]


async def _list(visit: PageRequest) -> Response:
    listing = Listing.of(_PATH, visit.query, _COLUMNS, _FILTERS)
    others = {key: value for key, value in listing.others.items() if key != "password" or value in {"set", "missing"}}
    found = await visit.run("agent.page", **listing.asked, **others)
    return visit.render(
        "agents/list.html",
        listing=listing,
        columns=chosen_columns(visit, _PATH, _COLUMNS, _AT_FIRST),
        all_columns=_COLUMNS,
        records=found["items"],
        total=found["total"],
        groups=(await visit.run("agent.groups"))["groups"],
    )


async def _groups(visit: PageRequest, record: Record | None) -> Sequence[Group]:
    outgoing = outgoing_group(visit, record, await visit.run("server.list"))
    fields = tuple(replace(one, hint=_mail_hint(record)) if one.key == "password" else one for one in outgoing.fields)
    scripts = [one["name"] for one in await visit.run("script.list")]
    return (
        Group("", (_FULL_NAME, _ADDRESS, _ALIASES)),
        replace(outgoing, fields=fields),
        Group("Person", _PERSON),
        Group("Login at Relay", (_login(record), _MAY_SEND_AS)),
        Group("More about sending", _rarely(scripts), is_folded=True),
    )


_FULL_NAME = Field(key="full_name", label="Full name")
_ADDRESS = Field(key="address", label="Address", kind="email", is_required=True, placeholder="jane@example.com")
_ALIASES = Field(
    key="aliases",
    label="Aliases",
    kind="lines",
    hint="Other addresses of the same person, one to a line; @example.com is a whole domain.",
)
_PERSON = (
    Field(key="group", label="Group"),
    Field(key="role", label="Role"),
    Field(key="country", label="Country"),
    Field(key="language", label="Language"),
)
_MAY_SEND_AS = Field(
    key="may_send_as",
    label="May also send as",
    kind="lines",
    hint="Names of channels or agents, one to a line, whose addresses the agent may use beside the own.",
)
_BETTER = "Better left empty: invite the agent, who sets it on the profile page, and nobody else knows it."


def _mail_hint(record: Record | None) -> str:
    if record is not None and record["override"] and record["password_set"]:
        return "Set; the agent can replace it on the profile page."
    return _BETTER


def _login(record: Record | None) -> Field:
    is_set = record is not None and record["login_set"]
    return Field(
        key="login",
        label="Login password",
        kind="password",
        check=prepare,
        autocomplete="new-password",
        hint="Set; a new one signs the agent out everywhere." if is_set else _BETTER,
    )


def _rarely(scripts: Sequence[str]) -> tuple[Field, ...]:
    """Return the fields that few agents need."""
    modes = (Choice("", "As the settings say"), *(Choice(mode, mode) for mode in ("auto", "direct", "queued")))
    kept = (Choice("rewrite", "The main address"), Choice("keep", "The alias itself (needs the override)"))
    return (
        Field(key="alias_identity", label="Mail from an alias leaves as", kind="select", choices=kept, start="rewrite"),
        Field(key="mode", label="Mode", kind="select", choices=modes),
        Field(
            key="script",
            label="Script",
            kind="select",
            choices=(Choice("", "None"), *(Choice(name, name) for name in scripts)),
        ),
    )


async def _set_passwords(visit: PageRequest, name: str) -> str:
    # The mail password last: where it is refused, the other is saved.
    done = [await dropped_override(visit, "agent", name)]
    login = visit.secret("login")
    if login is not None:
        await visit.run("agent.login", name=name, password=login)
        done.append("its login password is set")
    done.append(await save_password(visit, "agent.password", name))
    return "; ".join(filter(None, done))


async def _about(visit: PageRequest, record: Record | None) -> Mapping[str, Any]:
    if record is None:
        return {"sending": None, "accounts": []}
    return {
        "sending": await visit.run("agent.sending", name=record["name"]),
        "accounts": await troubles_of(visit, record),
    }


_NOUN = Noun(
    word="agent",
    path=_PATH,
    model=Agent,
    groups=_groups,
    templates="agents",
    check=outgoing_faults,
    finish=_set_passwords,
    about=_about,
)
