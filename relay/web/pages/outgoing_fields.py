"""How a channel or agent sends, on its pages: the fields that say so, what is wrong between them, and their test.

Testing saves nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from relay.control.results import AdvisedAccount
from relay.directory.kinds import Entry, EntryKind
from relay.web.kit.entry_editing import NAME, Noun, Record, groups_of, unfilled
from relay.web.kit.forms import Choice, Field, FieldFaults, changed_values, fields_of, read_values
from relay.web.kit.key_fields import key_field
from relay.web.kit.page_request import PageRequest
from relay.web.kit.test_page import Back, refused, refused_fields, stream_test, told_test
from relay.web.pages.secret_fields import REPLACE, secret_field

_NOT_THERE = "Only with an override."
# What the script of the page switches off with the override.
_OVERRIDE: Mapping[str, str] = {"data-override": ""}


def outgoing_fields(
    visit: PageRequest, kind: EntryKind[Entry], record: Record | None, servers: Sequence[Record]
) -> dict[str, Field]:
    """Return the fields; the override is off, with the reason, where the server that is chosen is internal."""
    default = next((one for one in servers if one["default"]), None)
    chosen = visit.text("server") if visit.form else str((record or {}).get("server") or "")
    resolved = next((one for one in servers if one["name"] == chosen), default)
    off = _reason(resolved) if resolved is not None and resolved["internal"] else ""
    is_set = record is not None and record["override"] and record["password_set"]
    by_oauth = resolved is not None and resolved["auth"] == "oauth2"
    override, username = key_field(kind, "override"), key_field(kind, "username")
    password = secret_field("password", "Email password", _password_hint(is_set=is_set, by_oauth=by_oauth))
    return {
        "server": replace(key_field(kind, "server"), kind="select", choices=_choices(servers, default)),
        "override": replace(override, off=off, attributes=_OVERRIDE),
        "username": replace(username, off=off and _NOT_THERE, attributes={**username.attributes, **_OVERRIDE}),
        "password": replace(password, off=off and _NOT_THERE, attributes=_OVERRIDE),
    }


def script_field(kind: EntryKind[Entry], scripts: Sequence[Record], none: str) -> Field:
    """Return the field that chooses header rules; `none` is what is said where none is chosen."""
    choices = (Choice("", none), *(Choice(one["name"], one["name"]) for one in scripts))
    return replace(key_field(kind, "script"), kind="select", choices=choices)


def outgoing_faults(visit: PageRequest, fields: Sequence[Field]) -> FieldFaults:
    """Return what is wrong where a password is given and the override, which alone logs in with it, is not."""
    if visit.secret("password") is None:
        return {}
    if any(one.off for one in fields if one.key == "override"):
        return {"password": "nobody logs in with it on an internal server; choose another one, or leave this empty"}
    if visit.text("override") != "true":
        return {"password": "only with the override does anybody log in with it; tick that, or leave this empty"}
    return {}


async def dropped_override(visit: PageRequest, noun: str, name: str) -> str:
    """Return what is said where somebody ticked the override beside an internal server, as only without script goes."""
    if visit.text("override") != "true":
        return ""
    record = await visit.run(f"{noun}.show", name=name)
    return "" if record["override"] else f"its override is off, because {record['resolved_server']} is internal"


async def troubles_of(visit: PageRequest, record: Record | None) -> list[AdvisedAccount]:
    """Return how the own account of a profile is held or slowed; nothing where the server's account sends."""
    if record is None or not record["override"] or not record["resolved_server"]:
        return []
    found: list[AdvisedAccount] = await visit.run("account.troubled", server=record["resolved_server"])
    return [one for one in found if one.username == record["username"] and one.address in {"", record["address"]}]


def _choices(servers: Sequence[Record], default: Record | None) -> tuple[Choice, ...]:
    def choice(server: Record, value: str, label: str) -> Choice:
        return Choice(value, label, attributes={"data-off": _reason(server) if server["internal"] else ""})

    first = (
        choice(default, "", f"{default['name']} (default)") if default else Choice("", "None yet: add a server first")
    )
    others = (choice(one, one["name"], f"{one['name']}{', internal' if one['internal'] else ''}") for one in servers)
    return (first, *others)


def _reason(server: Record) -> str:
    return f"Not possible on {server['name']}: it is internal, and mail leaves with its account and address."


def _password_hint(*, is_set: bool, by_oauth: bool) -> str:
    if by_oauth:
        return "Not needed: the server logs in by OAuth. Save, then authorize the account."
    return REPLACE if is_set else "Used to log in at the server. It is never shown again."


# The keys that say how it sends; the others are saved, and change nothing of that.
_KEYS = ("address", "server", "override", "username")


async def test_profile(noun: Noun, visit: PageRequest) -> Response:
    """Test what was posted; where that is what is saved, it counts as the test of the entry."""
    name = visit.path.get("name")
    record = await visit.run(f"{noun.word}.show", name=name) if name else None
    title = f"Test of {name or visit.text('name') or f'the new {noun.word}'}"
    back = Back(noun.where(name), name) if name else Back(f"{noun.path}/-/add", "the form")
    form = [one for one in fields_of(await groups_of(noun, visit, record)) if one is not NAME]
    values, faults = read_values(form, visit.form, noun.model)
    faults |= noun.check(visit, form)
    if faults:
        return told_test(visit, title, refused_fields(form, faults), back)
    password, is_round = visit.secret("password"), visit.text("round_trip") == "true"
    asked: dict[str, Any] = {"name": name, "to": visit.text("to") or None, "send": visit.text("send") == "true"}
    if record is not None and password is None and not changed_values(values, form, unfilled(record), noun.model):
        asked |= {"round_trip": True} if is_round else {}
        return stream_test(visit, title, f"{noun.word}.test", asked, back)
    if is_round:
        return told_test(visit, title, refused(f"a round trip is made by a saved {noun.word}: save it first"), back)
    meant = {key: values[key] for key in _KEYS if values.get(key) is not None}
    return stream_test(visit, title, f"{noun.word}.try", {**asked, "values": meant, "password": password}, back)
