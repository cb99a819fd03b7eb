"""The pages of agents: the list, the form, and what is done with them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from relay.directory.kinds import AGENT
from relay.web.authorization import authorizing_routes
from relay.web.kit.entry_editing import Noun, Record, editing_routes, noun_page, save_password
from relay.web.kit.forms import Field
from relay.web.kit.key_fields import columns_for, key_field
from relay.web.kit.lists import Listing, chosen_columns, columns_route
from relay.web.kit.page_request import PageRequest, page
from relay.web.kit.site import Site
from relay.web.pages.invitations import invitation_routes
from relay.web.pages.outgoing_fields import (
    dropped_override,
    outgoing_faults,
    outgoing_fields,
    script_field,
    test_profile,
    troubles_of,
)
from relay.web.pages.secret_fields import LOGIN_PASSWORD, SetSecret, has_login, login_field, set_secrets

_PATH = "/agents"
_COLUMNS = columns_for(AGENT, optional=AGENT.columns[1:])
_AT_FIRST = ("full_name", "address", "group", "role", "password_set", "login_set")
_FILTERS = ("group", "role", "server", "password")


def routes(site: Site) -> list[Route]:
    """Return the routes of agents."""
    return [
        page(_PATH, site, get=_list),
        columns_route(site, _PATH, _COLUMNS),
        *invitation_routes(site),
        page(f"{_NOUN.path}/-/test", site, post=noun_page(test_profile, _NOUN)),
        *editing_routes(_NOUN, site),
        page(f"{_PATH}/{{name}}/test", site, post=noun_page(test_profile, _NOUN)),
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


async def _special(visit: PageRequest, record: Record | None) -> Mapping[str, Field | None]:
    outgoing = outgoing_fields(visit, AGENT, record, await visit.run("server.list"))
    address = key_field(AGENT, "address")
    return {
        **outgoing,
        "address": replace(address, placeholder="jane@example.com"),
        "password": replace(outgoing["password"], hint=_mail_hint(record)),
        "login_password": login_field(
            "Set; a new one signs the agent out everywhere." if has_login(record) else _BETTER
        ),
        "script": script_field(AGENT, await visit.run("script.list"), "None"),
    }


_BETTER = "Better left empty: invite the agent, who sets it on the profile page, and nobody else knows it."


def _mail_hint(record: Record | None) -> str:
    if record is not None and record["override"] and record["password_set"]:
        return "Set; the agent can replace it on the profile page."
    return _BETTER


_SECRETS = (SetSecret(LOGIN_PASSWORD, "agent.login", "its login password is set"),)


async def _finish(visit: PageRequest, name: str) -> str:
    # The mail password last: where it is refused, the other is saved.
    done = [await dropped_override(visit, "agent", name), *await set_secrets(visit, name, _SECRETS)]
    done.append(await save_password(visit, "agent.password", name))
    return "; ".join(filter(None, done))


async def _about(visit: PageRequest, record: Record | None) -> Mapping[str, Any]:
    if record is None:
        return {"sending": None, "accounts": []}
    return {
        "sending": await visit.run("agent.sending", name=record["name"]),
        "accounts": await troubles_of(visit, record),
    }


_NOUN = Noun(kind=AGENT, special=_special, check=outgoing_faults, finish=_finish, about=_about)
