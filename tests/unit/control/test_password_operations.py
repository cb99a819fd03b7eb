"""Passwords: where they are kept, and how they get into the vault."""

import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import Refused
from tests.unit.control.control_kit import TWO_SERVERS, operations_in


def _with(**agent: str) -> dict[str, Any]:
    directory: dict[str, Any] = deepcopy(dict(TWO_SERVERS))
    directory["agents"]["jane"] |= agent
    return directory


async def test_the_list_says_where_each_is_kept_and_whose_nobody_is(tmp_path: Path) -> None:
    directory = _with(password_from="env:MAIL_PASSWORD")
    directory["servers"]["other"]["password"] = "geheim-4"
    async with operations_in(tmp_path, directory) as operations:
        await operations.run("channel.password", {"name": "support", "password": "geheim-5"})
        await operations.run("channel.password", {"name": "sales", "password": "geheim-6"})
        state = tmp_path / "state/directory.toml"
        state.write_text(state.read_text().replace("[channels.support]", "[channels.renamed]"))
        async with operations_in(tmp_path, tomllib.loads(state.read_text())) as again:
            records = await again.run("secrets.list", {})
    assert {record["owner"]: (record["source"], record["used"]) for record in records} == {
        "server/other": ("directory", True),
        "profile/jane": ("env:MAIL_PASSWORD", True),
        "profile/sales": ("vault", True),
        "profile/support": ("vault", False),
    }
    changed = {record["owner"]: record["changed"] for record in records}
    assert changed["profile/sales"].endswith("Z")
    assert changed["server/other"] is None
    assert "geheim" not in str(records)


async def test_import_moves_passwords_out_of_the_file(tmp_path: Path) -> None:
    directory = _with(password="geheim-7")
    directory["servers"]["other"]["password"] = "geheim-8"
    async with operations_in(tmp_path, directory) as operations:
        result = await operations.run("secrets.import", {})
        assert result == {"ok": True, "imported": ["server/other", "profile/jane"]}
        assert "geheim" not in (tmp_path / "state/directory.toml").read_text()
        assert (await operations.run("agent.show", {"name": "jane"}))["password_set"] is True
        assert (await operations.run("secrets.import", {}))["imported"] == []


async def test_a_password_that_would_not_count_is_refused(tmp_path: Path) -> None:
    async with operations_in(tmp_path, _with(password_from="env:MAIL_PASSWORD")) as operations:
        with pytest.raises(Refused, match="'jane' takes its password from env:MAIL_PASSWORD"):
            await operations.run("agent.password", {"name": "jane", "password": "geheim-9"})


async def test_a_new_password_replaces_the_one_in_the_file(tmp_path: Path) -> None:
    async with operations_in(tmp_path, _with(password="old")) as operations:
        await operations.run("agent.password", {"name": "jane", "password": "new"})
        assert 'password = "old"' not in (tmp_path / "state/directory.toml").read_text()
        [record] = await operations.run("secrets.list", {})
        assert (record["owner"], record["source"]) == ("profile/jane", "vault")


@pytest.mark.parametrize("password", ["", "two\nlines", "nul\0"])
async def test_what_is_no_password_is_refused_without_being_shown(tmp_path: Path, password: str) -> None:
    async with operations_in(tmp_path) as operations:
        with pytest.raises(Refused, match=r"^a password is one line of text and not empty$"):
            await operations.run("agent.password", {"name": "jane", "password": password})


async def test_rotate_keeps_every_password(tmp_path: Path) -> None:
    async with operations_in(tmp_path) as operations:
        await operations.run("agent.password", {"name": "jane", "password": "pw"})
        before = (tmp_path / "state/master.key").read_bytes()
        result = await operations.run("secrets.rotate", {})
        assert result["secrets"] == 1
        assert (tmp_path / "state/master.key").read_bytes() != before
        assert (await operations.run("agent.show", {"name": "jane"}))["password_set"] is True


async def test_a_lost_master_key_is_one_sentence(tmp_path: Path) -> None:
    async with operations_in(tmp_path) as operations:
        await operations.run("agent.password", {"name": "jane", "password": "pw"})
        (tmp_path / "state/master.key").unlink()
        with pytest.raises(Refused, match=r"master key file .* is missing") as caught:
            await operations.run("secrets.rotate", {})
        assert "\n" not in str(caught.value)


def _with_mailbox(**incoming: str) -> dict[str, Any]:
    directory = _with()
    directory["agents"]["jane"]["incoming"] = {"host": "imap.acmejets.example", **incoming}
    directory["servers"]["other"]["incoming"] = {"host": "imap.other.example"}
    return directory


async def test_a_mailbox_has_a_password_of_its_own(tmp_path: Path) -> None:
    async with operations_in(tmp_path, _with_mailbox()) as operations:
        await operations.run("agent.incoming", {"name": "jane", "password": "geheim-20"})
        await operations.run("server.incoming", {"name": "other", "password": "geheim-21"})
        records = await operations.run("secrets.list", {})
        assert {record["owner"]: record["used"] for record in records} == {
            "incoming/jane": True,
            "incoming/server/other": True,
        }
        assert (await operations.run("agent.show", {"name": "jane"}))["password_set"] is False
        await operations.run("agent.remove", {"name": "jane"})
        assert [record["owner"] for record in await operations.run("secrets.list", {})] == ["incoming/server/other"]


async def test_a_mailboxs_password_in_the_file_is_moved_too(tmp_path: Path) -> None:
    async with operations_in(tmp_path, _with_mailbox(password="geheim-22")) as operations:
        with pytest.raises(Refused, match=r"the mailbox of 'jane' takes its password from directory\.toml"):
            await operations.run("agent.incoming", {"name": "jane", "password": "geheim-23"})
        assert (await operations.run("secrets.import", {}))["imported"] == ["incoming/jane"]
        assert "geheim" not in (tmp_path / "state/directory.toml").read_text()
        assert "imap.acmejets.example" in (tmp_path / "state/directory.toml").read_text()


async def test_who_has_no_mailbox_has_no_password_for_it(tmp_path: Path) -> None:
    async with operations_in(tmp_path) as operations:
        with pytest.raises(Refused, match=r"'support' has no mailbox; set incoming\.host first"):
            await operations.run("channel.incoming", {"name": "support", "password": "geheim-24"})
