"""The form of a server: what it asks for beside the keys of a server, what a provider's preset fills in, and its test.

Filling in and testing save nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from starlette.responses import Response

from relay.control.entries.machine_keys import without_machine_keys
from relay.control.entries.provider_records import LIMITS
from relay.directory.kinds import SERVER
from relay.directory.model import Security, Server
from relay.web.kit.entry_editing import NAME, Noun, Record, groups_of, show_filled, unfilled
from relay.web.kit.forms import Choice, Field, changed_values, fields_of, folded_values, read_values
from relay.web.kit.key_fields import key_field
from relay.web.kit.page_request import PageRequest
from relay.web.kit.test_page import Back, refused_fields, stream_test, told_test
from relay.web.pages.secret_fields import KEPT, MAILBOX_PASSWORD, REPLACE, mailbox_field, secret_field

PORTS: Mapping[str, int] = MappingProxyType({security.value: security.port for security in Security})


def server_fields(
    record: Record | None, presets: Sequence[Record], *, chosen: str, fill_at: str, followed: str
) -> dict[str, Field | None]:
    """Return the fields of the form that are no keys, or are asked for in another way.

    `chosen` is the preset that was filled in, `fill_at` where that is done; `followed` says who follows a new default.
    """
    host, address = key_field(SERVER, "host"), key_field(SERVER, "address")
    anew = "For another name its passwords, and those of accounts at it, must be entered anew."
    follows = {"data-ports": json.dumps(dict(PORTS)), "data-port-field": "f-port"}
    port = record["port"] if record else PORTS["starttls"]
    client_hint = "Where the app has one. It is never shown again."
    return {
        "preset": _preset(presets, chosen, fill_at),
        "host": replace(host, hint=anew if record else host.hint),
        "security": replace(key_field(SERVER, "security"), attributes=follows),
        "port": replace(key_field(SERVER, "port"), placeholder=str(port)),
        "password": secret_field("password", "Password", REPLACE if record and record["password_set"] else KEPT),
        "address": replace(address, placeholder=(record and record["address"]) or address.placeholder),
        "default": None if record else _default(followed),
        "client_secret": secret_field(
            "client_secret", "Client secret", REPLACE if record and record["client_secret_set"] else client_hint
        ),
        MAILBOX_PASSWORD: mailbox_field(record),
    }


def _default(followed: str) -> Field:
    return Field(key="default", label="Set as default now", kind="check", hint=followed, is_own=True)


def preset_texts(preset: Record) -> dict[str, str]:
    """Return what a provider's preset writes into the form; what it says nothing of becomes the default again."""
    values = preset["values"]
    oauth = values.get("oauth", {}) if values.get("auth") == "oauth2" else {}
    fixed = {"kind": "smtp", "api": "", "host": "", "security": "starttls", "port": "", "auth": "auto"}
    limits = {key: key_field(SERVER, key).start for key in LIMITS}
    tables = {f"oauth.{key}": str(oauth.get(key, "")) for key in ("provider", "tenant", "flow")}
    given = {key: str(value) for key, value in values.items() if key != "oauth"}
    return {**fixed, **limits, **tables, **given}


def _preset(presets: Iterable[Record], chosen: str, fill_at: str) -> Field:
    def choice(preset: Record) -> Choice:
        attributes = {
            "data-fill": json.dumps(preset_texts(preset)),
            "data-note": _sentence(preset["note"]),
            "data-host": preset["host"],
        }
        return Choice(preset["name"], preset["title"], attributes=attributes)

    presets = tuple(presets)
    note = next((one["note"] for one in presets if one["name"] == chosen), "")
    none = Choice("", "Other (enter the settings)")
    return Field(
        key="preset",
        label="Provider",
        kind="select",
        choices=(none, *map(choice, presets)),
        hint=_sentence(note) or "Choosing one fills in what is known of it.",
        attributes={"data-fills": "f-"},
        is_own=True,
        button="Fill in",
        button_to=fill_at,
    )


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}." if note else ""


def model_values(record: Record, keys: Iterable[str]) -> dict[str, Any]:
    """Return what directory.toml would say of a server as its record shows it."""
    follows = record["follows"]
    return {key: record[key] for key in keys if key in record and key not in follows and record[key] not in (None, [])}


_KEYS = tuple(one.name for one in fields(Server) if one.name not in {"name", "password"})


async def fill_server(noun: Noun, visit: PageRequest) -> Response:
    """Show the form again, with what is known of the provider that was chosen."""
    record = await _record(visit)
    wanted = visit.text("preset")
    presets = {one["name"]: one for one in await visit.run("provider.list")}
    changed = preset_texts(presets[wanted]) if wanted in presets else {}
    return await show_filled(noun, visit, record, changed)


async def test_server(noun: Noun, visit: PageRequest) -> Response:
    """Test what was posted; where that is what is saved, it counts as the test of the server."""
    record = await _record(visit)
    title = f"Test of {record['name'] if record else visit.text('host') or 'the new server'}"
    back = Back(noun.where(record["name"]), record["name"]) if record else Back(f"{noun.path}/-/add", "the form")
    form = [one for one in fields_of(await groups_of(noun, visit, record)) if one is not NAME]
    values, faults = read_values(form, visit.form, Server)
    to = visit.text("to")
    if not to:
        faults["An address to test with"] = "this is needed"
    if faults:
        return told_test(visit, title, refused_fields(form, faults), back)
    send, password = visit.text("send") == "true", visit.secret("password")
    if record is not None and password is None and not changed_values(values, form, unfilled(record), Server):
        return stream_test(visit, title, "server.test", {"name": record["name"], "to": to, "send": send}, back)
    saved = model_values(record, _KEYS) if record else {}
    meant = without_machine_keys(saved | folded_values(values, form, Server, record or {}))
    asked = {"values": meant, "to": to, "send": send, "password": password, "name": record["name"] if record else None}
    return stream_test(visit, title, "server.try", asked, back)


async def _record(visit: PageRequest) -> Record | None:
    name = visit.path.get("name")
    record: Record | None = await visit.run("server.show", name=name) if name else None
    return record
