"""Applications, and the passwords with which they and profiles log in at Relay."""

from pathlib import Path

import pytest

from relay.control.refused import Refused
from relay.secrets.login_password import login_owner, parse_record
from tests.unit.control.control_kit import AdminOperations, operations_in, parts_in

PASSWORD = "geheim-login-1"


async def _login_set(operations: AdminOperations, kind: str, name: str) -> bool:
    return bool((await operations.run(f"{kind}.show", {"name": name}))["login_set"])


async def test_an_application_is_added_changed_listed_and_removed(operations: AdminOperations) -> None:
    values = {"may_send_as": ["support", "group:flights"]}
    added = await operations.run("application.add", {"name": "crm", "values": values})
    assert added == {
        "name": "crm",
        "may_send_as": ["support", "group:flights"],
        "bounces": None,
        "login_set": False,
        "version": added["version"],
    }
    await operations.run("application.add", {"name": "bot", "values": {"may_send_as": ["*"]}, "password": PASSWORD})
    changed = await operations.run("application.set", {"name": "crm", "changes": ["may_send_as=sales"]})
    assert changed["may_send_as"] == ["sales"]
    listed = await operations.run("application.list", {})
    assert [(record["name"], record["login_set"]) for record in listed] == [("bot", True), ("crm", False)]
    await operations.run("application.remove", {"name": "crm"})
    with pytest.raises(Refused, match="there is no application 'crm'"):
        await operations.run("application.show", {"name": "crm"})


@pytest.mark.parametrize(("kind", "name"), [("channel", "support"), ("agent", "jane"), ("application", "crm")])
async def test_a_login_password_is_kept_as_a_record_and_goes_with_its_name(
    tmp_path: Path, kind: str, name: str
) -> None:
    async with parts_in(tmp_path) as parts:
        operations = AdminOperations(parts)
        await operations.run("application.add", {"name": "crm", "values": {"may_send_as": ["*"]}})
        entry = await operations.run(f"{kind}.show", {"name": name})
        assert not entry["login_set"]
        verb = "password" if kind == "application" else "login"
        await operations.run(f"{kind}.{verb}", {"name": name, "password": PASSWORD})
        assert await _login_set(operations, kind, name)
        kept = await parts.vault.get(login_owner(name))
        assert kept is not None
        assert PASSWORD not in kept.value
        parse_record(kept.value, name)
        await operations.run(f"{kind}.remove", {"name": name})
        assert not parts.vault.has(login_owner(name))
        # Whoever takes the entry out of the file by hand leaves the login behind: a new owner must not inherit it.
        await parts.vault.put(login_owner(name), kept.value)
        keys = ("address",) if "address" in entry else ("may_send_as",)
        await operations.run(f"{kind}.add", {"name": name, "values": {key: entry[key] for key in keys}})
        assert not await _login_set(operations, kind, name)


async def test_the_email_password_and_the_login_are_two(operations: AdminOperations) -> None:
    await operations.run("agent.login", {"name": "jane", "password": PASSWORD})
    jane = await operations.run("agent.show", {"name": "jane"})
    assert (jane["password_set"], jane["login_set"]) == (False, True)


@pytest.mark.parametrize(
    ("password", "sentence"),
    [("short", "at least 8 characters"), ("geheim\nzwei", "one line of text"), ("g" * 1025, "at most 1,024")],
)
async def test_what_cannot_be_a_login_password_changes_nothing(
    operations: AdminOperations, password: str, sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence) as caught:
        await operations.run("agent.login", {"name": "jane", "password": password})
    assert password not in str(caught.value)
    assert not await _login_set(operations, "agent", "jane")


async def test_logins_of_nobody_are_refused(operations: AdminOperations) -> None:
    for name, params in (("agent.login", {"name": "jan"}), ("application.password", {"name": "crm"})):
        with pytest.raises(Refused, match="there is no"):
            await operations.run(name, {**params, "password": PASSWORD})
    with pytest.raises(Refused, match="'jane' is no channel"):
        await operations.run("channel.login", {"name": "jane", "password": PASSWORD})


async def test_names_and_groups_are_checked(operations: AdminOperations) -> None:
    with pytest.raises(Refused, match="there is no channel or agent 'suport'; did you mean 'support'"):
        await operations.run("application.add", {"name": "crm", "values": {"may_send_as": ["suport"]}})
    with pytest.raises(Refused, match="there is an agent 'jane' already; name the application differently"):
        await operations.run("application.add", {"name": "jane", "values": {}})
    await operations.run("application.add", {"name": "crm", "values": {"may_send_as": ["jane"]}})
    with pytest.raises(Refused, match="application crm may send as 'jane'; take it out first"):
        await operations.run("agent.remove", {"name": "jane"})
    assert (await operations.run("agent.show", {"name": "jane"}))["name"] == "jane"


async def test_the_list_of_secrets_has_the_logins(tmp_path: Path) -> None:
    async with operations_in(tmp_path) as operations:
        await operations.run("agent.login", {"name": "jane", "password": PASSWORD})
        await operations.run("channel.login", {"name": "sales", "password": PASSWORD})
        file = tmp_path / "state/directory.toml"
        file.write_text(file.read_text().replace("[channels.sales]", "[channels.renamed]"))
        records = await operations.run("secrets.list", {})
        assert [(record["owner"], record["source"], record["used"]) for record in records] == [
            ("login/jane", "vault", True),
            ("login/sales", "vault", False),
        ]
        assert (await operations.run("secrets.rotate", {}))["secrets"] == 2
        assert await _login_set(operations, "agent", "jane")


async def test_a_route_is_explained_for_every_kind_of_login(operations: AdminOperations) -> None:
    await operations.run("application.add", {"name": "crm", "values": {"may_send_as": ["group:flights", "support"]}})

    async def profile(sender: str, login: str) -> str:
        route = await operations.run("route", {"sender": sender, "login": login})
        return str(route["profile"])

    assert await profile("jane@acmejets.example", "crm") == "jane"
    assert await profile("help@acmejets.example", "CRM") == "support"
    assert await profile("jane@acmejets.example", "Jane@AcmeJets.example") == "jane"
    with pytest.raises(Refused, match=r"<sales@acmejets.example>: crm may not send as this address"):
        await profile("sales@acmejets.example", "crm")
    with pytest.raises(Refused, match="there is no login 'cmr'; did you mean 'crm'"):
        await profile("jane@acmejets.example", "cmr")
    with pytest.raises(Refused, match=r"there is no login 'help@acmejets.example'"):
        await profile("jane@acmejets.example", "help@acmejets.example")


async def test_the_profile_of_bounces_exists_and_stays(operations: AdminOperations) -> None:
    values = {"may_send_as": ["*"], "bounces": "suport"}
    with pytest.raises(Refused, match="there is no channel or agent 'suport'; did you mean 'support'"):
        await operations.run("application.add", {"name": "postfix", "values": values})
    await operations.run("application.add", {"name": "postfix", "values": values | {"bounces": "support"}})
    with pytest.raises(Refused, match=r"the bounces of application postfix leave from .*; change that first: "):
        await operations.run("channel.remove", {"name": "support"})
    changed = await operations.run("application.set", {"name": "postfix", "changes": ["bounces="]})
    assert changed["bounces"] is None
    await operations.run("channel.remove", {"name": "support"})
