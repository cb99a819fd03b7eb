"""Channels and agents as CSV: what goes out comes back, every fault has its line, and nothing is done halfway."""

import csv
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.control.actor import Actor, Role, Way
from relay.control.context import ControlContext
from relay.control.refused import Conflict, Forbidden
from tests.unit.control.control_kit import TWO_SERVERS, AdminOperations, parts_in

MANY = 20_000
DIRECTORY: Mapping[str, Any] = {
    **TWO_SERVERS,
    "agents": {
        "jane": {"address": "jane@acmejets.example", "group": "flights", "role": "Lead", "override": True},
        "odd.one": {
            "address": "odd@acmejets.example",
            "aliases": ['"semi;colon"@acmejets.example', "@odd.example"],
            "full_name": "=1+1",
            "may_send_as": ["support", "jane"],
            "group": 'Line\nbreak, "quoted"',
            "password_from": "env:MAIL_PASSWORD",
        },
    },
}


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[ControlContext]:
    async with parts_in(tmp_path, DIRECTORY) as parts:
        yield parts


@pytest.fixture
def operations(parts: ControlContext) -> AdminOperations:
    return AdminOperations(parts)


def _csv(*rows: Sequence[str], delimiter: str = ",") -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()


async def _names(operations: AdminOperations) -> list[str]:
    return [agent["name"] for agent in await operations.run("agent.list", {})]


@pytest.mark.parametrize("noun", ["channel", "agent"])
async def test_what_goes_out_comes_back_as_no_change(operations: AdminOperations, noun: str) -> None:
    text = (await operations.run(f"{noun}.export", {}))["text"]
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header[:4] == ["name", "address", "aliases", "server"]
    assert "password" not in header
    assert len(rows) == 2
    result = await operations.run(f"{noun}.import", {"text": text})
    expected = {"rows": 2, "adds": [], "changes": [], "passwords": [], "unchanged": 2, "faults": [], "done": False}
    assert {key: value for key, value in result.items() if key != "version"} == expected


async def test_no_cell_goes_out_as_a_formula(operations: AdminOperations) -> None:
    text = (await operations.run("agent.export", {}))["text"]
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert "'=1+1" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


async def test_an_import_is_shown_and_done_when_it_is_confirmed(
    operations: AdminOperations, parts: ControlContext
) -> None:
    text = _csv(
        ["name", "address", "override", "group", "aliases", "password"],
        ["bob", "bob@acmejets.example", "yes", "sales", "b@acmejets.example;bobby@acmejets.example", "geheim-1"],
        ["jane", "jane@acmejets.example", "false", "", "", "geheim-2"],
        [
            "odd.one",
            "odd@acmejets.example",
            "",
            'Line\nbreak, "quoted"',
            '"semi\\;colon"@acmejets.example;@odd.example',
            "",
        ],
        delimiter=";",
    )
    shown = await operations.run("agent.import", {"text": text})
    assert (shown["rows"], shown["adds"], shown["unchanged"], shown["faults"]) == (3, ["bob"], 1, [])
    [change] = shown["changes"]
    keys = {"override": [True, False], "group": ["flights", ""], "password": [None, "set"]}
    assert change == {"name": "jane", "keys": keys}
    assert not shown["done"]
    assert "geheim" not in str(shown)
    assert await _names(operations) == ["jane", "odd.one"]
    done = await operations.run("agent.import", {"text": text, "confirm": True, "expected": shown["version"]})
    assert done == {**shown, "done": True}
    bob = await operations.run("agent.show", {"name": "bob"})
    assert (bob["override"], bob["group"], bob["password_set"], bob["login_set"]) == (True, "sales", True, False)
    assert bob["aliases"] == ["b@acmejets.example", "bobby@acmejets.example"]
    jane = await operations.run("agent.show", {"name": "jane"})
    assert (jane["override"], jane["group"], jane["role"], jane["password_set"]) == (False, "", "Lead", True)
    secret = await parts.vault.get("profile/jane")
    assert secret is not None
    assert secret.value == "geheim-2"
    text_now = parts.settings.directory_path.read_text()
    assert "geheim" not in text_now
    assert "aliases = []" not in text_now, "what is the default is not written down"
    again = await operations.run("agent.import", {"text": text.replace("geheim-2", "").replace("geheim-1", "")})
    assert (again["adds"], again["changes"], again["unchanged"]) == ([], [], 3)


async def test_every_fault_is_told_at_once_with_its_line_and_nothing_is_done(
    operations: AdminOperations, parts: ControlContext
) -> None:
    text = _csv(
        ["name", "address", "override", "server", "mode", "aliases", "password", "groupe"],
        ["bob", "bob@acmejets.example\n", "maybe", "nowhere", "fast", "", "geheim\n3", ""],
        ["support", "x@acmejets.example", "", "", "", "", "", ""],
        ["-x", "y@acmejets.example", "", "", "", "", "", ""],
        ["jane", "", "", "", "", "", "", ""],
        ["cid", "Support@AcmeJets.example", "", "", "", "JANE@acmejets.example", "", ""],
        ["cid", "cid@acmejets.example", "", "", "", "", "", ""],
        ["dan", "", "", "", "", "", "", ""],
        ["eve", "no address", "", "", "", "", "", ""],
        ["short"],
    )
    before = parts.settings.directory_path.read_bytes()
    result = await operations.run("agent.import", {"text": text, "confirm": True})
    assert not result["done"]
    assert result["rows"] == 9
    found = {(fault["line"], fault["key"]): fault["message"] for fault in result["faults"]}
    assert found[1, "groupe"] == "there is no such key; did you mean 'group'?"
    assert "neither true nor false" in found[2, "override"]
    assert "there is no server 'nowhere'" in found[2, "server"]
    assert "'fast' is not 'auto'" in found[2, "mode"]
    assert found[2, "password"] == "a password is one line of text"
    assert "belongs to channel 'support' already" in found[5, "name"]
    assert "a name" in found[6, "name"]
    assert "this key is needed" in found[7, "address"]
    assert "belongs to channel 'support' already" in found[8, "address"]
    assert "belongs to agent 'jane' already" in found[8, "aliases"]
    assert "'cid' stands in line 8 already" in found[9, "name"]
    assert "this key is needed" in found[10, "address"]
    assert (11, "address") in found
    assert "the number of cells here is 1, and 8 in the header" in found[12, ""]
    assert len(found) == len(result["faults"]) == 14
    assert "geheim" not in str(result)
    assert parts.settings.directory_path.read_bytes() == before
    assert not parts.vault.has("profile/bob")


async def test_an_address_that_another_kind_has_is_told_at_the_row(operations: AdminOperations) -> None:
    """The rules name the agent, which is in no row of a table of channels."""
    text = _csv(["name", "address", "aliases"], ["new", "new@acmejets.example", "Jane@acmejets.example"])
    [fault] = (await operations.run("channel.import", {"text": text}))["faults"]
    assert (fault["line"], fault["key"]) == (2, "aliases")
    assert "agents.jane.address" in fault["message"]


async def test_a_password_that_would_not_count_is_a_fault(operations: AdminOperations) -> None:
    text = _csv(["name", "password"], ["odd.one", "geheim-4"])
    [fault] = (await operations.run("agent.import", {"text": text, "confirm": True}))["faults"]
    assert (fault["line"], fault["key"]) == (2, "password")
    assert fault["message"] == "agent 'odd.one' takes its password from env:MAIL_PASSWORD; set it there, not here"


async def test_passwords_alone_leave_the_file_alone(operations: AdminOperations, parts: ControlContext) -> None:
    before = parts.settings.directory_path.read_bytes()
    text = _csv(["password", "name"], ["geheim-5", "jane"])
    assert (await operations.run("agent.import", {"text": text, "confirm": True}))["done"]
    assert parts.settings.directory_path.read_bytes() == before
    assert (await operations.run("agent.show", {"name": "jane"}))["password_set"]


async def test_a_password_in_the_file_goes_to_the_vault(tmp_path: Path) -> None:
    inline = {"agents": {"jane": {"address": "jane@acmejets.example", "password": "geheim-6"}}}
    async with parts_in(tmp_path, {**TWO_SERVERS, **inline}) as parts:
        text = _csv(["name", "password"], ["jane", "geheim-7"])
        assert (await AdminOperations(parts).run("agent.import", {"text": text, "confirm": True}))["done"]
        assert "geheim" not in parts.settings.directory_path.read_text()
        assert parts.vault.has("profile/jane")


async def test_a_new_name_gets_nothing_of_an_earlier_owner(operations: AdminOperations, parts: ControlContext) -> None:
    await parts.vault.put("profile/bob", "geheim-8")
    await parts.vault.put("login/bob", "record")
    text = _csv(["name", "address"], ["bob", "bob@acmejets.example"])
    assert (await operations.run("agent.import", {"text": text, "confirm": True}))["done"]
    assert not parts.vault.has("profile/bob")
    assert not parts.vault.has("login/bob")


async def test_what_is_done_is_what_was_shown(operations: AdminOperations) -> None:
    text = _csv(["name", "role"], ["jane", "Pilot"])
    shown = await operations.run("agent.import", {"text": text})
    await operations.run("agent.set", {"name": "jane", "changes": ["role=Chief"]})
    with pytest.raises(Conflict, match="the directory was changed meanwhile"):
        await operations.run("agent.import", {"text": text, "confirm": True, "expected": shown["version"]})
    assert (await operations.run("agent.show", {"name": "jane"}))["role"] == "Chief"


async def test_comments_stay_where_an_import_writes(operations: AdminOperations, parts: ControlContext) -> None:
    path = parts.settings.directory_path
    path.write_text("# who sends\n" + path.read_text())
    text = _csv(["name", "address", "role"], ["jane", "j@acmejets.example", ""], ["bob", "b@acmejets.example", "x"])
    assert (await operations.run("agent.import", {"text": text, "confirm": True}))["done"]
    assert path.read_text().startswith("# who sends\n")
    assert await _names(operations) == ["bob", "jane", "odd.one"]


async def test_the_audit_has_what_an_import_did_and_no_password(operations: AdminOperations) -> None:
    text = _csv(["name", "role", "password"], ["jane", "Pilot", "geheim-9"])
    await operations.run("agent.import", {"text": text})
    assert (await operations.run("audit.list", {}))["items"] == [], "a look changes nothing"
    await operations.run("agent.import", {"text": text, "confirm": True})
    [entry] = (await operations.run("audit.list", {}))["items"]
    assert entry["operation"] == "agent.import"
    assert {change["key"]: change["new"] for change in entry["changes"]} == {
        "agents.jane.role": "Pilot",
        "profile/jane": "set",
    }
    assert "geheim" not in str(entry)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AGENT])
async def test_an_import_is_for_administrators(operations: AdminOperations, role: Role) -> None:
    with pytest.raises(Forbidden):
        await operations.run("agent.import", {"text": "name\n"}, Actor(name="jane", role=role, way=Way.PAGE))


async def test_a_text_that_is_no_table_is_a_fault(operations: AdminOperations) -> None:
    result = await operations.run("agent.import", {"text": "\x00\x01 no table", "confirm": True})
    assert [fault["key"] for fault in result["faults"]] == ["\x00\x01 no table", "name"]
    assert not result["done"]


@pytest.mark.slow
async def test_twenty_thousand_rows_are_imported(tmp_path: Path) -> None:
    header = ["name", "address", "full_name", "group", "override", "password"]
    rows = [[f"a{n}", f"a{n}@acmejets.example", f"Agent {n}", f"g{n % 50}", "true", f"geheim-{n}"] for n in range(MANY)]
    async with parts_in(tmp_path, TWO_SERVERS) as parts:
        operations = AdminOperations(parts)
        text = _csv(header, *rows)
        assert len((await operations.run("agent.import", {"text": text}))["adds"]) == MANY
        assert (await operations.run("agent.import", {"text": text, "confirm": True}))["done"]
        assert parts.vault.has(f"profile/a{MANY - 1}")
