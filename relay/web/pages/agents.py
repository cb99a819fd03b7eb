"""The pages of agents: the list, the form, and what is done with them."""

from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import Route

from relay.directory.model import Agent
from relay.web.columns import chosen_columns, columns_route
from relay.web.editing import Noun, Record, editing_routes
from relay.web.forms import Field, Group
from relay.web.listing import Column, Listing
from relay.web.pages.invitations import invitation_routes
from relay.web.profile_fields import handling_fields, sending_fields
from relay.web.site import Site
from relay.web.visit import Visit, page

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
    Column("password_set", "Mail password", is_optional=True),
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
        *editing_routes(_NOUN, site),
    ]


async def _list(visit: Visit) -> Response:
    listing = Listing.of(_PATH, visit.query, _COLUMNS, _FILTERS)
    others = {key: value for key, value in listing.others.items() if key != "password" or value in {"set", "missing"}}
    found = await visit.run("agent.page", **listing.asked, **others)
    return visit.render(
        "agents.html",
        listing=listing,
        columns=chosen_columns(visit, _PATH, _COLUMNS, _AT_FIRST),
        all_columns=_COLUMNS,
        records=found["items"],
        total=found["total"],
        groups=(await visit.run("agent.groups"))["groups"],
    )


async def _groups(visit: Visit, record: Record | None) -> Sequence[Group]:
    return (
        Group("", (_FULL_NAME, _ADDRESS, _ALIASES)),
        await sending_fields(visit, record),
        Group("Person", _PERSON),
        Group("More about sending", (_MAY_SEND_AS, *handling_fields(await visit.run("script.list"))), is_folded=True),
        Group("Passwords", _passwords(record), _PASSWORDS, is_folded=True),
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
    hint="Channels or agents beside the own address, one to a line.",
)
_PASSWORDS = (
    "Better leave both to the agent: invite, and the agent sets them on the own page. Then nobody else knows them."
)


def _passwords(record: Record | None) -> tuple[Field, Field]:
    mail = "Set; fill in to replace it." if record and record["password_set"] else ""
    login = "Set; fill in to replace it." if record and record["login_set"] else ""
    return (
        Field(
            key="password",
            label="Mail password",
            kind="password",
            autocomplete="new-password",
            hint=mail or "With which Relay logs in at the mail server, where the agent overrides its configuration.",
        ),
        Field(
            key="login",
            label="Login password",
            kind="password",
            autocomplete="new-password",
            hint=login or "With which the agent logs in at Relay; 8 characters at least.",
        ),
    )


async def _set_passwords(visit: Visit, name: str) -> str:
    done = []
    for key, operation, words in (("password", "agent.password", "mail"), ("login", "agent.login", "login")):
        given = visit.secret(key)
        if given is not None:
            await visit.run(operation, name=name, password=given)
            done.append(f"the {words} password is set")
    return "; ".join(done)


_NOUN = Noun(word="agent", path=_PATH, model=Agent, groups=_groups, templates="agent", finish=_set_passwords)
