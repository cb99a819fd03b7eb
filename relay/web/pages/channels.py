"""The pages of channels: the list as it resolves, the form with override and incoming mail, tests and findings."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from relay.directory.model import Channel
from relay.secrets.login_password import prepare
from relay.web.authorization import authorizing_routes
from relay.web.kit.entry_editing import Noun, Record, editing_routes, noun_page, save_password
from relay.web.kit.forms import Choice, Field, FieldFaults, Group
from relay.web.kit.lists import Column, Listing
from relay.web.kit.page_request import PageRequest, page
from relay.web.kit.site import Site
from relay.web.kit.test_page import Back, told_findings
from relay.web.pages import profile_tests
from relay.web.pages.account_troubles import troubles_of
from relay.web.pages.mailbox_fields import PASSWORD, mailbox_faults, mailbox_group
from relay.web.pages.outgoing_fields import dropped_override, outgoing_faults, outgoing_group

_COLUMNS = (
    Column("name", "Name"),
    Column("address", "Address"),
    Column("resolved_server", "Outgoing mail server"),
    Column("username", "Logs in as"),
    Column("password_set", "Email password"),
    Column("script", "Script"),
    Column("mode", "Mode"),
    Column("last_test", "Last test"),
)
_FILTERS = ("server", "password")
_MODES = (
    Choice("", "As the settings say"),
    Choice("auto", "Automatic", "Hands over while the client waits, and keeps what cannot leave now."),
    Choice("direct", "Direct", "Never keeps a message: the client has the server's own answer."),
    Choice("queued", "Queued", "Keeps every message first, and the client waits for nobody."),
)


def routes(site: Site) -> list[Route]:
    """Return the routes of channels."""
    there = f"{_NOUN.path}/{{name}}"
    return [
        page(_NOUN.path, site, get=_list),
        page(f"{_NOUN.path}/-/test", site, post=noun_page(profile_tests.test, _NOUN)),
        *editing_routes(_NOUN, site),
        page(f"{there}/test", site, post=noun_page(profile_tests.test, _NOUN)),
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


async def _groups(visit: PageRequest, record: Record | None) -> Sequence[Group]:
    servers = await visit.run("server.list")
    scripts = [one["name"] for one in await visit.run("script.list")]
    return (
        Group("", (*_addresses(), _script(scripts), Field(key="mode", label="Mode", kind="select", choices=_MODES))),
        outgoing_group(visit, record, servers),
        _login_group(record),
        mailbox_group(
            record, "Where mail to this address arrives: for the round trip of the test, and mail that comes back."
        ),
    )


def _addresses() -> tuple[Field, ...]:
    address = Field(key="address", label="Address", kind="email", is_required=True, placeholder="support@example.com")
    aliases = Field(
        key="aliases",
        label="Aliases",
        kind="lines",
        placeholder="help@example.com\n@support.example.com",
        hint="Other addresses that mail may come from, one to a line; @domain means the whole domain.",
    )
    kept = Field(
        key="alias_identity",
        label="Mail from an alias leaves as",
        kind="select",
        choices=(Choice("rewrite", "The address above"), Choice("keep", "The alias itself", "Needs the override.")),
    )
    return address, aliases, kept


def _script(names: Sequence[str]) -> Field:
    follows = "“default”, which applies where none is chosen" if "default" in names else "None"
    choices = (Choice("", follows), *(Choice(name, name) for name in names))
    return Field(key="script", label="Script", kind="select", choices=choices, hint="Header rules for its mail.")


def _login_group(record: Record | None) -> Group:
    is_set = record is not None and record["login_set"]
    password = Field(
        key="login_password",
        label="Login password",
        kind="password",
        check=prepare,
        autocomplete="new-password",
        hint="Set; fill in to replace it."
        if is_set
        else "With which software logs in at Relay to send as this channel.",
    )
    return Group("Login at Relay", (password,))


def _faults(visit: PageRequest, fields: Sequence[Field]) -> FieldFaults:
    return {**outgoing_faults(visit, fields), **mailbox_faults(visit)}


async def _finish(visit: PageRequest, name: str) -> str:
    # The mail password last: where it is refused, the others are saved.
    done = [await dropped_override(visit, "channel", name)]
    secrets = (
        ("login_password", "channel.login", "its login password is set"),
        (PASSWORD, "channel.incoming", "the password of its mailbox is set"),
    )
    for field, operation, words in secrets:
        given = visit.secret(field)
        if given is not None:
            await visit.run(operation, name=name, password=given)
            done.append(words)
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


_NOUN = Noun(
    word="channel",
    path="/channels",
    model=Channel,
    groups=_groups,
    templates="channels",
    check=_faults,
    finish=_finish,
    about=_about,
)
