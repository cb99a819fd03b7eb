"""The pages of servers: the list, the form with its test, the default, and who sends through a server."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from relay.directory.kinds import SERVER
from relay.web.authorization import authorizing_routes
from relay.web.kit.entry_editing import Noun, Record, editing_routes, noun_page, save_password
from relay.web.kit.forms import Choice, Field, FieldFaults
from relay.web.kit.key_fields import LOGINS, SECURITIES, columns_for
from relay.web.kit.lists import Column, Listing
from relay.web.kit.page_request import ADMINISTRATORS, PageRequest, page
from relay.web.kit.site import Site
from relay.web.pages import server_default
from relay.web.pages.secret_fields import MAILBOX_PASSWORD, SetSecret, mailbox_faults, set_secrets
from relay.web.pages.server_fields import fill_server, server_fields, test_server

_COLUMNS = columns_for(SERVER)
_USERS = (
    Column("name", "Name"),
    Column("address", "Address"),
    Column("override", "Logs in with"),
    Column("server", "Chosen"),
)
_KINDS = ("channels", "agents")


def routes(site: Site) -> list[Route]:
    """Return the routes of servers."""
    there = f"{_NOUN.path}/{{name}}"
    return [
        page(_NOUN.path, site, get=_list),
        page(f"{_NOUN.path}/-/fill", site, post=noun_page(fill_server, _NOUN)),
        page(f"{_NOUN.path}/-/test", site, post=noun_page(test_server, _NOUN)),
        *editing_routes(_NOUN, site),
        page(f"{there}/fill", site, post=noun_page(fill_server, _NOUN)),
        page(f"{there}/test", site, post=noun_page(test_server, _NOUN)),
        page(f"{there}/users", site, get=_users),
        page(f"{there}/default", site, get=server_default.ask, post=server_default.change, roles=ADMINISTRATORS),
        *authorizing_routes(site, _NOUN.word, _NOUN.path),
    ]


async def _list(visit: PageRequest) -> Response:
    listing = Listing.of(_NOUN.path, visit.query, _COLUMNS)
    found = await visit.run("server.page", **listing.asked)
    shown = {"listing": listing, "columns": _COLUMNS, "found": found}
    return visit.render("servers/list.html", securities=_words_of(SECURITIES), logins=_words_of(LOGINS), **shown)


def _words_of(choices: Sequence[Choice]) -> dict[str, str]:
    return {choice.value: choice.label for choice in choices}


async def _users(visit: PageRequest) -> Response:
    """Who sends through a server: its channels or its agents, those that follow the default too."""
    record = await visit.run("server.show", name=visit.path["name"])
    kind = visit.query.get("kind", "")
    kind = kind if kind in _KINDS else _KINDS[0]
    listing = Listing.of(f"{_NOUN.where(record['name'])}/users", visit.query, _USERS, ("kind",))
    found = await visit.run(f"{kind.removesuffix('s')}.page", server=record["name"], **listing.asked)
    shown = {"listing": listing, "columns": _USERS, "found": found, "kind": kind, "kinds": _KINDS}
    return visit.render("servers/users.html", noun=_NOUN, record=record, **shown)


async def _special(visit: PageRequest, record: Record | None) -> Mapping[str, Field | None]:
    presets = await visit.run("provider.list")
    there = _NOUN.where(record["name"]) if record else f"{_NOUN.path}/-"
    followed = "" if record else await server_default.followed(visit)
    return server_fields(record, presets, chosen=visit.text("preset"), fill_at=f"{there}/fill", followed=followed)


async def _about(visit: PageRequest, record: Record | None) -> Mapping[str, Any]:
    """What the page of a server says beside its form: accounts in trouble, and where its users can go."""
    if record is None:
        return {"accounts": []}
    servers = await visit.run("server.list")
    return {
        "accounts": await visit.run("account.troubled", server=record["name"]),
        "others": [one["name"] for one in servers if one["name"] != record["name"]],
        # Of a server that is not the default every user has chosen it.
        "choosing": record["used_by_channels"] + record["used_by_agents"],
    }


def _faults(visit: PageRequest, fields: Sequence[Field]) -> FieldFaults:  # noqa: ARG001
    auth, found = visit.text("auth"), mailbox_faults(visit)
    if visit.secret("client_secret") is not None and auth != "oauth2":
        found |= {"client_secret": "it is for the authentication method OAuth 2; choose that, or leave this empty"}
    if visit.secret("password") is not None and auth in {"oauth2", "none"}:
        found |= {"password": "this authentication method has none; choose another one, or leave this empty"}
    return found


_SECRETS = (
    SetSecret("client_secret", "server.client_secret", "its client secret is set", parameter="secret"),
    SetSecret(MAILBOX_PASSWORD, "server.incoming", "the password of its mailbox is set"),
)


async def _finish(visit: PageRequest, name: str) -> str:
    done = await set_secrets(visit, name, _SECRETS)
    if visit.text("default") == "true":
        await visit.run("server.default", name=name)
        done.append("it is the default now")
    # Where it is refused, all else is saved by then.
    done.append(await save_password(visit, "server.password", name))
    waiting = await visit.run("server.entered_anew", name=name)
    count = len(waiting["profiles"]) + waiting["server"]
    if count:
        one = "1 password was" if count == 1 else f"{count:,} passwords were"
        done.append(f"{one} set for another server name and must be entered anew")
    return "; ".join(filter(None, done))


_NOUN = Noun(kind=SERVER, special=_special, check=_faults, finish=_finish, about=_about)
