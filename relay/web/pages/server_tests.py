"""Testing what stands in the form of a server, and filling it in from a provider's preset. Neither saves anything."""

from dataclasses import fields

from starlette.responses import Response

from relay.control.entries.machine_keys import without_machine_keys
from relay.directory.model import Server
from relay.web.kit.entry_editing import NAME, Noun, Record, groups_of, show_filled, unfilled
from relay.web.kit.forms import changed_values, fields_of, folded_values, read_values
from relay.web.kit.page_request import PageRequest
from relay.web.kit.test_page import Back, refused_fields, stream_test, told_test
from relay.web.pages.server_fields import model_values, preset_texts

_KEYS = tuple(one.name for one in fields(Server) if one.name not in {"name", "password"})


async def fill(noun: Noun, visit: PageRequest) -> Response:
    """Show the form again, with what is known of the provider that was chosen."""
    record = await _record(visit)
    wanted = visit.text("preset")
    presets = {one["name"]: one for one in await visit.run("provider.list")}
    changed = preset_texts(presets[wanted]) if wanted in presets else {}
    return await show_filled(noun, visit, record, changed)


async def test(noun: Noun, visit: PageRequest) -> Response:
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
