"""A secret goes to no other server than it was set for: who moves, who stays, and whose password must be set anew."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.control.actor import Actor, Role, Way
from relay.control.context import ControlContext
from relay.control.refused import Forbidden
from relay.directory.edit import set_entry
from relay.directory.kinds import SERVER
from relay.secrets.binding import bind_unbound
from relay.secrets.secret import incoming_ref, ref_of, token_ref
from relay.secrets.sources import SecretDelayed
from tests.unit.control.control_kit import PARAMS, TWO_SERVERS, AdminOperations, parts_in
from tests.unit.secrets.oauth_kit import grant

HOST = "smtp.elsewhere.example"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[ControlContext]:
    async with parts_in(tmp_path, TWO_SERVERS) as parts:
        yield parts


@pytest.fixture
async def operations(parts: ControlContext) -> AdminOperations:
    operations = AdminOperations(parts)
    await operations.run("server.password", {"name": "acmejets", "password": "the house's"})
    await operations.run("agent.password", {"name": "jane", "password": "hers"})
    return operations


async def state(operations: AdminOperations, noun: str, name: str) -> tuple[bool, bool]:
    record = await operations.run(f"{noun}.show", {"name": name})
    return record["password_set"], record["password_for_another"]


async def _secret(parts: ControlContext, kind: str, name: str) -> str | None:
    """Return what would be sent to the server that is in effect."""
    directory = parts.directory.routing().directory
    if kind == "server":
        ref = ref_of(directory.servers[name], directory.servers[name])
    else:
        profile = directory.profile(name)
        assert profile is not None
        ref = ref_of(profile, directory.server_of(profile))
    found = await parts.secrets.secret(ref)
    return found.value if found else None


async def test_a_new_default_leaves_an_own_password_at_its_server(operations: AdminOperations) -> None:
    known = await operations.run("server.followers", {"name": "other"})
    assert known == {"before": "acmejets", "followers": ["support"], "stay": ["jane"]}
    assert (await operations.run("agent.show", {"name": "jane"}))["server"] is None, "to ask changes nothing"
    assert await operations.run("server.default", {"name": "other"}) == {"ok": True, **known}
    jane = await operations.run("agent.show", {"name": "jane"})
    assert (jane["server"], jane["password_set"]) == ("acmejets", True)
    assert (await operations.run("channel.show", {"name": "support"}))["server"] is None
    assert await operations.run("server.followers", {"name": "other"}) == {
        "before": "other",
        "followers": ["support"],
        "stay": [],
    }


async def test_override_writes_the_server_in_effect(operations: AdminOperations) -> None:
    await operations.run("channel.set", {"name": "support", "changes": ["override=true"]})
    assert (await operations.run("channel.show", {"name": "support"}))["server"] == "acmejets"
    await operations.run("agent.add", {"name": "joe", "values": {"address": "joe@acmejets.example", "override": True}})
    assert (await operations.run("agent.show", {"name": "joe"}))["server"] == "acmejets"


async def test_another_server_needs_another_password_and_the_first_one_takes_its_own_again(
    operations: AdminOperations, parts: ControlContext
) -> None:
    await operations.run("agent.set", {"name": "jane", "changes": ["server=other"]})
    assert await state(operations, "agent", "jane") == (False, True)
    assert await _secret(parts, "agent", "jane") is None
    assert await operations.run("server.entered_anew", {"name": "other"}) == {"server": False, "profiles": ["jane"]}
    await operations.run("agent.set", {"name": "jane", "changes": ["server=acmejets"]})
    assert await state(operations, "agent", "jane") == (True, False)
    await operations.run("agent.set", {"name": "jane", "changes": ["server=other"]})
    await operations.run("agent.password", {"name": "jane", "password": "for the other"})
    assert await _secret(parts, "agent", "jane") == "for the other"


async def _by_file(operations: AdminOperations, parts: ControlContext) -> None:
    del operations
    path = parts.settings.directory_path
    path.write_text(path.read_text().replace("smtp.acmejets.example", HOST))
    await parts.directory.refresh()


async def _by_command(operations: AdminOperations, parts: ControlContext) -> None:
    del parts
    await operations.run("server.set", {"name": "acmejets", "changes": [f"host={HOST}"]})


async def _by_api(operations: AdminOperations, parts: ControlContext) -> None:
    del parts
    ada = Actor(name="ada", role=Role.ADMINISTRATOR, way=Way.API)
    await operations.run("server.set", {"name": "acmejets", "values": {"host": HOST}}, ada)


@pytest.mark.parametrize("change", [_by_file, _by_command, _by_api])
async def test_another_host_gets_no_password(operations: AdminOperations, parts: ControlContext, change: Any) -> None:
    await change(operations, parts)
    assert await state(operations, "server", "acmejets") == (False, True)
    assert await state(operations, "agent", "jane") == (False, True)
    assert (await _secret(parts, "server", "acmejets"), await _secret(parts, "agent", "jane")) == (None, None)
    assert await operations.run("server.entered_anew", {"name": "acmejets"}) == {"server": True, "profiles": ["jane"]}
    # The same host in other letters is the same.
    await operations.run("server.set", {"name": "acmejets", "changes": ["host=SMTP.AcmeJets.Example"]})
    assert await _secret(parts, "server", "acmejets") == "the house's"
    assert await _secret(parts, "agent", "jane") == "hers"


async def test_the_machines_own_user_keeps_passwords_for_a_new_host(
    operations: AdminOperations, parts: ControlContext
) -> None:
    await operations.run("server.set", {"name": "acmejets", "changes": [f"host={HOST}"], "keep_passwords": True})
    assert await _secret(parts, "server", "acmejets") == "the house's"
    assert await _secret(parts, "agent", "jane") == "hers"
    await operations.run("server.set", {"name": "acmejets", "changes": ["host=smtp.acmejets.example"]})
    assert await _secret(parts, "server", "acmejets") is None, "it is for the new host alone"


@pytest.mark.parametrize("way", [Way.PAGE, Way.API])
async def test_nobody_else_can_say_that_passwords_go_to_another_host(
    operations: AdminOperations, parts: ControlContext, way: Way
) -> None:
    ada = Actor(name="ada", role=Role.ADMINISTRATOR, way=way)
    with pytest.raises(Forbidden, match="--keep-passwords"):
        await operations.run("server.set", {"name": "acmejets", "values": {"host": HOST}, "keep_passwords": True}, ada)
    assert parts.directory.routing().directory.servers["acmejets"].host == "smtp.acmejets.example"
    assert await _secret(parts, "server", "acmejets") == "the house's"


async def test_an_import_sets_the_password_that_was_for_another_host(
    operations: AdminOperations, parts: ControlContext
) -> None:
    await operations.run("moving.import", {**PARAMS, "confirm": True})
    old = {"host": "smtp.old.example"}
    await operations.run("server.set", {"name": "smtp.new.example", "values": old})
    await operations.run("server.password", {"name": "smtp.new.example", "password": "of the old host"})
    await operations.run("server.set", {"name": "smtp.new.example", "values": {"host": "smtp.new.example"}})
    assert await _secret(parts, "server", "smtp.new.example") is None
    assert (await operations.run("moving.import", {**PARAMS, "confirm": True}))["faults"] == []
    assert await _secret(parts, "server", "smtp.new.example") == "geheim-1"


async def test_what_nobody_bound_goes_nowhere_until_it_is_bound_to_where_it_would_go(
    operations: AdminOperations, parts: ControlContext
) -> None:
    """So is what a store from before has, and what an older node writes beside new ones."""
    await parts.vault.put("profile/jane", "from before")
    await parts.vault.put("server/other", "from an older node")
    await bind_unbound(parts.vault, parts.directory.routing().directory)
    assert await _secret(parts, "agent", "jane") == "from before"
    assert parts.vault.bound_to("profile/jane") == "acmejets smtp.acmejets.example"
    assert parts.vault.bound_to("server/other") == "smtp.other.example"
    await parts.directory.change(lambda document: set_entry(document, SERVER, "acmejets", {"host": HOST}))
    await bind_unbound(parts.vault, parts.directory.routing().directory)
    assert await _secret(parts, "agent", "jane") is None
    assert await state(operations, "agent", "jane") == (False, True)


async def test_what_is_asked_for_before_it_is_bound_is_delayed(
    operations: AdminOperations, parts: ControlContext
) -> None:
    """Between an older node's word and our look at it nothing is sent, nobody is refused, and no account is held."""
    await parts.vault.put("profile/jane", "from an older node")
    assert await state(operations, "agent", "jane") == (True, False)
    with pytest.raises(SecretDelayed, match="another node"):
        await _secret(parts, "agent", "jane")


async def test_what_nobody_uses_is_bound_to_where_its_entry_comes_to_be(
    operations: AdminOperations, parts: ControlContext
) -> None:
    """A person writes an entry into the file whose password is there from before."""
    await parts.vault.put("profile/joe", "of long ago")
    await bind_unbound(parts.vault, parts.directory.routing().directory)
    assert parts.vault.bound_to("profile/joe") is None
    path = parts.settings.directory_path
    path.write_text(
        f'{path.read_text()}\n[agents.joe]\naddress = "joe@acmejets.example"\nserver = "other"\noverride = true\n'
    )
    await parts.directory.refresh()
    await bind_unbound(parts.vault, parts.directory.routing().directory)
    assert parts.vault.bound_to("profile/joe") == "other smtp.other.example"
    await operations.run("agent.set", {"name": "joe", "changes": ["server=acmejets"]})
    await bind_unbound(parts.vault, parts.directory.routing().directory)
    assert await _secret(parts, "agent", "joe") is None


async def test_a_client_secret_goes_to_no_other_provider(operations: AdminOperations, parts: ControlContext) -> None:
    """Nor to another machine that begins its device flow: that is told the secret, too."""
    oauth = {"provider": "custom", "client_id": "app", "flow": "device"}
    oauth |= {
        "token_url": "https://login.acmejets.example/token",
        "device_url": "https://login.acmejets.example/device",
    }
    values = {"auth": "oauth2", "oauth": oauth}
    await operations.run("server.set", {"name": "acmejets", "values": values})
    await operations.run("server.client_secret", {"name": "acmejets", "secret": "the client's"})
    assert (await operations.run("server.show", {"name": "acmejets"}))["client_secret_set"]
    for key in ("token_url", "device_url"):
        change = {"name": "acmejets", "values": {"oauth": {**oauth, key: "https://elsewhere.example/x"}}}
        assert not (await operations.run("server.set", change))["client_secret_set"], key
    same = {**oauth, "device_url": "https://login.acmejets.example/device2"}
    changed = await operations.run("server.set", {"name": "acmejets", "values": {"oauth": same}})
    assert changed["client_secret_set"]


async def test_tokens_go_to_no_other_server(operations: AdminOperations, parts: ControlContext) -> None:
    oauth = {"provider": "google", "client_id": "app"}
    await operations.run("server.set", {"name": "acmejets", "values": {"auth": "oauth2", "oauth": oauth}})
    directory = parts.directory.routing().directory
    jane = directory.agents["jane"]
    ref = token_ref(directory.servers["acmejets"], jane)
    assert ref is not None
    await parts.secrets.tokens.keep(ref, grant())
    assert await state(operations, "agent", "jane") == (True, False)
    await operations.run("server.set", {"name": "acmejets", "changes": [f"host={HOST}"]})
    assert await state(operations, "agent", "jane") == (False, True)
    elsewhere = token_ref(parts.directory.routing().directory.servers["acmejets"], jane)
    assert elsewhere is not None
    assert await parts.secrets.secret(elsewhere) is None
    assert (await operations.run("server.entered_anew", {"name": "acmejets"}))["profiles"] == ["jane"]


async def test_the_password_of_a_mailbox_goes_to_no_other_host(
    operations: AdminOperations, parts: ControlContext
) -> None:
    await operations.run("agent.set", {"name": "jane", "changes": ["incoming.host=imap.acmejets.example"]})
    await operations.run("agent.incoming", {"name": "jane", "password": "of the mailbox"})

    async def known() -> str | None:
        ref = incoming_ref(parts.directory.routing().directory.agents["jane"])
        assert ref is not None
        found = await parts.secrets.secret(ref)
        return found.value if found else None

    assert await known() == "of the mailbox"
    await operations.run("agent.set", {"name": "jane", "changes": ["incoming.host=imap.elsewhere.example"]})
    assert await known() is None
    await operations.run("agent.set", {"name": "jane", "changes": ["incoming.host=IMAP.acmejets.example"]})
    assert await known() == "of the mailbox"


async def test_a_table_that_moves_an_agent_moves_no_password(
    operations: AdminOperations, parts: ControlContext
) -> None:
    moved = {"text": "name,server\r\njane,other\r\n", "confirm": True}
    assert (await operations.run("agent.import", moved))["done"]
    assert await state(operations, "agent", "jane") == (False, True)
    assert await _secret(parts, "agent", "jane") is None
    both = {"text": "name,server,password\r\njane,acmejets,for acmejets\r\n", "confirm": True}
    assert (await operations.run("agent.import", both))["done"]
    assert parts.vault.bound_to("profile/jane") == "acmejets smtp.acmejets.example"
    assert await _secret(parts, "agent", "jane") == "for acmejets"


async def test_an_edit_of_the_file_that_moves_an_agent_moves_no_password(
    operations: AdminOperations, parts: ControlContext
) -> None:
    """Here she names no server, so that another default in the file is another server."""
    path = parts.settings.directory_path
    path.write_text(path.read_text().replace('default_server = "acmejets"', 'default_server = "other"'))
    await parts.directory.refresh()
    assert (await operations.run("agent.show", {"name": "jane"}))["resolved_server"] == "other"
    assert await state(operations, "agent", "jane") == (False, True)
    assert await _secret(parts, "agent", "jane") is None


async def test_before_a_change_it_is_said_whose_password_would_be_for_another(operations: AdminOperations) -> None:
    nobody = {"server": False, "profiles": []}
    assert await operations.run("server.entered_anew", {"name": "acmejets"}) == nobody
    asked = {"name": "acmejets", "changes": [f"host={HOST}"]}
    assert await operations.run("server.entered_anew", asked) == {"server": True, "profiles": ["jane"]}
    asked = {"name": "acmejets", "changes": ["max_connections=2"]}
    assert await operations.run("server.entered_anew", asked) == nobody
    await operations.run("server.default", {"name": "other"})
    asked = {"name": "other", "instead_of": "acmejets"}
    assert await operations.run("server.entered_anew", asked) == {"server": False, "profiles": ["jane"]}
    assert (await operations.run("server.show", {"name": "acmejets"}))["host"] == "smtp.acmejets.example"
