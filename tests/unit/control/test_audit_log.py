"""The audit trail: who changed what by which way, and never a secret."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from relay.control.actor import Actor, Role, Way
from relay.control.audit_log import Change, differences
from relay.control.context import ControlContext
from relay.control.refused import Refused
from relay.directory.rules.validation import parse_directory
from relay.store.db.errors import StoreFull
from tests.peers.work import counted, counted_turns
from tests.unit.control.control_kit import TWO_SERVERS, AdminOperations, parts_in, with_holds_read
from tests.unit.control.queue_kit import hold_row, new, stored

ADA = Actor(name="ada", role=Role.ADMINISTRATOR, way=Way.PAGE, peer="192.0.2.7")
JANE = Actor(name="jane", role=Role.AGENT, way=Way.PAGE)
SECRET = "geheim-geheim"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[ControlContext]:
    async with parts_in(tmp_path) as parts:
        yield parts


@pytest.fixture
def operations(parts: ControlContext) -> AdminOperations:
    return AdminOperations(parts)


async def entries(operations: AdminOperations, **search: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await operations.run("audit.list", search))["items"]
    return found


def changed(entry: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(one["key"], one["old"], one["new"]) for one in entry["changes"]]


async def test_a_change_is_kept_with_who_made_it_and_what_differs(operations: AdminOperations) -> None:
    change = {"name": "support", "changes": ["address=info@acmejets.example", "mode=queued"]}
    await operations.run("channel.set", change, ADA)
    (entry,) = await entries(operations)
    assert entry.keys() == {"id", "at", "who", "role", "way", "peer", "operation", "what", "changes"}
    facts = (entry["who"], entry["role"], entry["way"], entry["peer"], entry["operation"], entry["what"])
    assert facts == ("ada", "administrator", "page", "192.0.2.7", "channel.set", "support")
    assert changed(entry) == [
        ("channels.support.address", "support@acmejets.example", "info@acmejets.example"),
        ("channels.support.mode", None, "queued"),
    ]


async def test_what_is_added_and_removed_is_told_key_by_key(operations: AdminOperations) -> None:
    values = {"address": "new@acmejets.example", "incoming": {"host": "imap.acmejets.example"}}
    await operations.run("channel.add", {"name": "new", "values": values, "password": SECRET}, ADA)
    await operations.run("channel.remove", {"name": "new"}, ADA)
    await operations.run("server.default", {"name": "other"}, ADA)
    default, removed, added = await entries(operations)
    assert changed(added) == [
        ("password", None, "set"),
        ("channels.new.address", None, "new@acmejets.example"),
        ("channels.new.incoming.host", None, "imap.acmejets.example"),
    ]
    assert changed(removed) == [(key, new, old) for key, old, new in changed(added)]
    # She has an account of her own, at the server that was the default.
    assert changed(default) == [("default_server", "acmejets", "other"), ("agents.jane.server", None, "acmejets")]


@pytest.mark.parametrize(
    ("operation", "params", "key", "actor"),
    [
        ("server.password", {"name": "other", "password": SECRET}, "password", ADA),
        ("agent.password", {"name": "jane", "password": SECRET}, "password", JANE),
        ("agent.login", {"name": "jane", "password": SECRET}, "login", JANE),
        ("channel.incoming", {"name": "support", "password": SECRET}, "incoming.password", ADA),
        ("server.client_secret", {"name": "other", "secret": SECRET}, "client_secret", ADA),
    ],
)
async def test_a_secret_is_told_by_its_key_alone(
    operations: AdminOperations, parts: ControlContext, operation: str, params: dict[str, Any], key: str, actor: Actor
) -> None:
    incoming = {"incoming": {"host": "imap.acmejets.example"}}
    await operations.run("channel.set", {"name": "support", "values": incoming})
    if key == "client_secret":
        oauth = {"provider": "google", "client_id": "x"}
        await operations.run("server.set", {"name": "other", "values": {"auth": "oauth2", "oauth": oauth}})
    await operations.run(operation, params, actor)
    entry = (await entries(operations))[0]
    assert (entry["who"], entry["what"], changed(entry)) == (actor.name, params["name"], [(key, None, "set")])
    await operations.run(operation, params, actor)
    assert changed((await entries(operations))[0]) == [(key, "set", "changed")]
    await operations.run("admin.add", {"name": "ada", "password": SECRET})
    await operations.run("admin.password", {"name": "ada", "password": SECRET + "2"})
    token = (await operations.run("token.add", {"name": "ci", "role": "administrator"}))["token"]
    text = json.dumps(await entries(operations))
    assert SECRET not in text
    assert token not in text
    assert token.encode() not in (parts.settings.state_dir / "relay.db").read_bytes()


async def test_a_secret_that_is_forgotten_is_told(operations: AdminOperations) -> None:
    await operations.run("agent.set", {"name": "jane", "values": {"incoming": {"host": "imap.acmejets.example"}}})
    for operation in ("agent.password", "agent.login", "agent.incoming"):
        await operations.run(operation, {"name": "jane", "password": SECRET})
    await operations.run("agent.remove", {"name": "jane"}, ADA)
    (entry, *_) = await entries(operations)
    gone = {("password", "set", None), ("incoming.password", "set", None), ("login", "set", None)}
    assert gone <= set(changed(entry))
    await operations.run("admin.add", {"name": "kim", "role": "viewer", "password": SECRET})
    await operations.run("admin.remove", {"name": "kim"}, ADA)
    assert changed((await entries(operations))[0]) == [("role", "viewer", None), ("password", "set", None)]


async def test_a_link_is_told_by_until_when_it_holds(operations: AdminOperations) -> None:
    for operation, params in (("agent.invite", {"name": "jane"}), ("admin.add", {"name": "kim"})):
        made = await operations.run(operation, params, ADA)
        (entry, *_) = await entries(operations)
        assert ("invitation", None, f"good until {made['expires']}") in changed(entry)
        assert made["url"].rpartition("/")[2] not in json.dumps(entry)


async def test_what_is_done_with_mail_that_waits_is_told_with_what_was(
    operations: AdminOperations, parts: ControlContext
) -> None:
    for number in (1, 2):
        await parts.queue.add(new(stored(id=f"aaaaaa00000{number}")))
    one = {"id": "aaaaaa000001"}
    for verb, was, is_ in (("hold", "queued", "held"), ("release", "held", "queued"), ("remove", "queued", "removed")):
        await operations.run(f"queue.{verb}", one, ADA)
        assert changed((await entries(operations))[0]) == [("state", was, is_)]
    await operations.run("queue.retry", {"ids": ["aaaaaa000002"]}, ADA)
    assert changed((await entries(operations))[0]) == [("next_attempt", "2025-11-24T10:00:00Z", "now")]
    await parts.queue.add(new(stored(id="aaaaaa000003", next_attempt=datetime.now(UTC) + timedelta(hours=1))))
    await operations.run("queue.retry", {"profile": "jane"}, ADA)
    (entry, *_) = await entries(operations)
    assert (entry["what"], changed(entry)) == ("jane", [("retried", None, 1)])


async def test_an_account_that_is_let_go_is_told_with_what_held_it(parts: ControlContext) -> None:
    account = "acmejets/jane@acmejets.example"
    await parts.queue.put_hold(hold_row("acmejets", "jane@acmejets.example"))
    await parts.queue.put_hold(hold_row("acmejets", "jane@acmejets.example", "support@acmejets.example"))
    operations = AdminOperations(await with_holds_read(parts))
    await operations.run("account.release", {"account": account}, ADA)
    (entry, *_) = await entries(operations)
    assert changed(entry) == [("state", "held", "ok"), ("state as support@acmejets.example", "held", "ok")]


async def test_passwords_of_the_file_are_never_told(operations: AdminOperations, tmp_path: Path) -> None:
    file = tmp_path / "state/directory.toml"
    directory: dict[str, Any] = json.loads(json.dumps(dict(TWO_SERVERS)))
    directory["servers"]["other"]["password"] = SECRET
    directory["channels"]["support"]["incoming"] = {"host": "x.example", "password": SECRET}
    directory["channels"]["support"]["password_from"] = f"env:{SECRET}"
    file.write_text(tomli_w.dumps(directory))
    await operations.run("status", {})
    directory["servers"]["other"]["password"] = SECRET + "2"
    file.write_text(tomli_w.dumps(directory))
    await operations.run("secrets.import", {}, ADA)
    await operations.run("status", {})
    imported, *by_hand = await entries(operations)
    assert changed(by_hand[0]) == [("servers.other.password", "set", "changed")]
    assert ("channels.support.incoming.password", None, "set") in changed(by_hand[1])
    assert ("channels.support.password_from", None, "set") in changed(by_hand[1])
    assert changed(imported)[-2:] == [
        ("servers.other.password", "set", None),
        ("channels.support.incoming.password", "set", None),
    ]
    assert SECRET not in json.dumps([imported, *by_hand])


async def test_an_edit_by_hand_has_an_entry_of_its_own(
    operations: AdminOperations, parts: ControlContext, tmp_path: Path
) -> None:
    file = tmp_path / "state/directory.toml"
    file.write_text(file.read_text().replace("smtp.other.example", "smtp.new.example"))
    # The change by an operation comes before the relay has looked at the file.
    await parts.directory.change(lambda document: document["servers"]["other"].update({"port": 26}))
    await parts.audit_log.aclose()
    (entry,) = await entries(operations)
    assert (entry["who"], entry["way"], entry["operation"]) == ("directory.toml", "file", "directory")
    assert changed(entry) == [("servers.other.host", "smtp.other.example", "smtp.new.example")]


async def test_operations_at_the_same_time_are_not_mixed_up(operations: AdminOperations) -> None:
    names = [f"a{number}" for number in range(8)]

    async def add(name: str) -> None:
        actor = Actor(name=f"by-{name}", role=Role.ADMINISTRATOR, way=Way.API)
        await operations.run("agent.add", {"name": name, "values": {"address": f"{name}@acmejets.example"}}, actor)

    await asyncio.gather(*map(add, names))
    found = await entries(operations)
    assert {(one["who"], one["what"], *changed(one)[0]) for one in found} == {
        (f"by-{name}", name, f"agents.{name}.address", None, f"{name}@acmejets.example") for name in names
    }


async def test_who_only_looks_and_what_is_refused_leaves_no_entry(operations: AdminOperations) -> None:
    await operations.run("channel.list", {}, ADA)
    with pytest.raises(Refused):
        await operations.run("channel.remove", {"name": "nobody"}, ADA)
    text = (await operations.run("agent.export", {}))["text"].replace("Lead", "Chief")
    await operations.run("agent.import", {"text": text}, ADA)
    assert await entries(operations) == []
    await operations.run("agent.import", {"text": text, "confirm": True}, ADA)
    assert [changed(one) for one in await entries(operations)] == [[("agents.jane.role", "Lead", "Chief")]]


async def test_a_full_disk_takes_no_change_back(
    operations: AdminOperations,
    parts: ControlContext,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def full(_: object) -> None:
        raise StoreFull("no space left")

    monkeypatch.setattr(parts.audit_table, "add", full)
    shown = await operations.run("channel.set", {"name": "support", "changes": ["mode=queued"]}, ADA)
    assert shown["mode"] == "queued"
    assert "could not be written to the audit: no space left" in capsys.readouterr().err


async def test_the_list_is_searched_and_paged(operations: AdminOperations) -> None:
    for mode in ("queued", "direct", "auto"):
        await operations.run("channel.set", {"name": "support", "changes": [f"mode={mode}"]}, ADA)
    await operations.run("channel.set", {"name": "sales", "changes": ["mode=auto"]}, JANE_THE_ADMINISTRATOR)
    first = await operations.run("audit.list", {"limit": 3})
    rest = await operations.run("audit.list", {"limit": 3, "before": first["next"]})
    assert [len(page["items"]) for page in (first, rest)] == [3, 1]
    assert rest["next"] is None
    assert len(await entries(operations, who="ada")) == 3
    assert [one["what"] for one in await entries(operations, what="sales")] == ["sales"]
    assert len(await entries(operations, contains="queued")) == 2
    assert await entries(operations, until="2025-01-01T00:00:00Z") == []
    with pytest.raises(Refused, match="is not a time"):
        await entries(operations, since="yesterday")
    with pytest.raises(Refused):
        await entries(operations, limit=501)


JANE_THE_ADMINISTRATOR = Actor(name="jane", role=Role.ADMINISTRATOR, way=Way.API)


def test_one_change_among_very_many_agents_is_found_without_a_look_into_each() -> None:
    agents = {f"a{number}": {"address": f"a{number}@acmejets.example"} for number in range(1_000)}
    before = parse_directory({**TWO_SERVERS, "agents": agents}, "x")
    agents["a77"]["role"] = "lead"
    after = parse_directory({**TWO_SERVERS, "agents": agents}, "x")
    with counted() as work:
        assert list(differences(before, after)) == [Change("agents.a77.role", "", "lead")]
    assert work.calls < 10_000, "to look into each would take tens for each"
    assert list(differences(after, after)) == []


async def test_the_loop_goes_on_while_very_many_agents_are_compared(tmp_path: Path) -> None:
    agents = {f"a{number}": {"address": f"a{number}@acmejets.example"} for number in range(10_000)}
    async with parts_in(tmp_path, {**TWO_SERVERS, "agents": agents}) as parts:
        before = parts.directory.routing().directory
        changed_agents = {name: entry | {"role": "lead"} for name, entry in agents.items()}
        after = await asyncio.to_thread(parse_directory, {**TWO_SERVERS, "agents": changed_agents}, "x")
        async with counted_turns() as work:
            parts.audit_log.edited(before, after, by_hand=True)
            await parts.audit_log.aclose()
        assert work.most < 1_000, "what looks at each is no work of the loop"
        (entry,) = await entries(AdminOperations(parts))
        assert len(entry["changes"]) == 10_000
