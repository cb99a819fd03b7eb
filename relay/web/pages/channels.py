"""The pages of channels: the list as it resolves, the form with override and incoming mail, tests and findings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from relay.directory.kinds import CHANNEL
from relay.web.authorization import authorizing_routes
from relay.web.kit.entry_editing import Noun, Record, editing_routes, noun_page, save_password
from relay.web.kit.forms import Field, FieldFaults
from relay.web.kit.key_fields import columns_for, key_field
from relay.web.kit.lists import Listing
from relay.web.kit.page_request import PageRequest, page
from relay.web.kit.site import Site
from relay.web.kit.test_page import Back, told_findings
from relay.web.pages.outgoing_fields import (
    dropped_override,
    outgoing_faults,
    outgoing_fields,
    script_field,
    test_profile,
    troubles_of,
)
from relay.web.pages.secret_fields import (
    LOGIN_PASSWORD,
    MAILBOX_PASSWORD,
    REPLACE,
    SetSecret,
    has_login,
    login_field,
    mailbox_faults,
    mailbox_field,
    set_secrets,
)

_COLUMNS = columns_for(CHANNEL)
_FILTERS = ("server", "password")


def routes(site: Site) -> list[Route]:
    """Return the routes of channels."""
    there = f"{_NOUN.path}/{{name}}"
    return [
        page(_NOUN.path, site, get=_list),
        page(f"{_NOUN.path}/-/test", site, post=noun_page(test_profile, _NOUN)),
        *editing_routes(_NOUN, site),
        page(f"{there}/test", site, post=noun_page(test_profile, _NOUN)),
        page(f"{there}/findings", site, post=_findings),
        *authorizing_routes(site, _NOUN.word, _NOUN.path),
    ]


async def _list(visit: PageRequest) -> Response:
    listing = Listing.of(_NOUN.path, visit.query, _COLUMNS, _FILTERS)
    server, password = listing.others.get("server"), listing.others.get("password")
    found = await visit.run(
        "channel.page",
        **listing.asked,
        server=server,
        password=password if password in {"set", "missing"} else None,
    )
    servers = await visit.run("server.list")
    shown = {"listing": listing, "columns": _COLUMNS, "found": found, "servers": servers}
    return visit.render("channels/list.html", **shown)


async def _special(visit: PageRequest, record: Record | None) -> Mapping[str, Field | None]:
    scripts = await visit.run("script.list")
    follows = (
        "“default”, which applies where none is chosen" if any(one["name"] == "default" for one in scripts) else ""
    )
    login_hint = REPLACE if has_login(record) else "Used by software to log in at Relay and send as this channel."
    return {
        **outgoing_fields(visit, CHANNEL, record, await visit.run("server.list")),
        "address": replace(key_field(CHANNEL, "address"), placeholder="support@example.com"),
        "aliases": replace(key_field(CHANNEL, "aliases"), placeholder="help@example.com\n@support.example.com"),
        "script": script_field(CHANNEL, scripts, follows or "None"),
        LOGIN_PASSWORD: login_field(login_hint),
        MAILBOX_PASSWORD: mailbox_field(record),
    }


def _faults(visit: PageRequest, fields: Sequence[Field]) -> FieldFaults:
    return {**outgoing_faults(visit, fields), **mailbox_faults(visit)}


_SECRETS = (
    SetSecret(LOGIN_PASSWORD, "channel.login", "its login password is set"),
    SetSecret(MAILBOX_PASSWORD, "channel.incoming", "the password of its mailbox is set"),
)


async def _finish(visit: PageRequest, name: str) -> str:
    # The mail password last: where it is refused, the others are saved.
    done = [await dropped_override(visit, "channel", name), *await set_secrets(visit, name, _SECRETS)]
    done.append(await save_password(visit, "channel.password", name))
    return "; ".join(filter(None, done))


async def _about(visit: PageRequest, record: Record | None) -> Mapping[str, Any]:
    """What the page says beside the form: how it leaves, and whether a round trip can be made."""
    if record is None or record["resolved_server"] is None:
        return {"server": None, "has_mailbox": False, "accounts": []}
    server = await visit.run("server.show", name=record["resolved_server"])
    has_mailbox = bool(record["incoming"] or (server["incoming"] and not record["override"]))
    return {"server": server, "has_mailbox": has_mailbox, "accounts": await troubles_of(visit, record)}


async def _findings(visit: PageRequest) -> Response:
    name = visit.path["name"]
    await visit.run("channel.show", name=name)
    return told_findings(visit, name, Back(_NOUN.where(name), name))


_NOUN = Noun(kind=CHANNEL, special=_special, check=_faults, finish=_finish, about=_about)
