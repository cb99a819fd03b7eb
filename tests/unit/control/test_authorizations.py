"""Authorizing accounts, and what is left of that when somebody goes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.control.context import ControlContext
from relay.control.entries.authorizations import code_in
from relay.control.refused import Refused
from relay.secrets.secret import token_ref
from tests.unit.control.control_kit import AdminOperations, parts_in
from tests.unit.secrets.oauth_kit import grant

OAUTH = {"provider": "custom", "client_id": "app", "token_url": "http://127.0.0.1:1/", "authorize_url": "http://[::1]/"}
OWN = {**OAUTH, "flow": "client_credentials"}
DIRECTORY: dict[str, Any] = {
    "default_server": "plain",
    "servers": {
        "plain": {"host": "h", "username": "m@acmejets.example"},
        "code": {"host": "h", "auth": "oauth2", "username": "m@acmejets.example", "oauth": OAUTH},
        "own": {"host": "h", "auth": "oauth2", "username": "m@acmejets.example", "oauth": OWN},
        "nameless": {"host": "h", "auth": "oauth2", "oauth": OAUTH},
    },
    "channels": {
        "support": {"address": "support@acmejets.example", "server": "code", "override": True},
        "sales": {"address": "sales@acmejets.example", "server": "code"},
        "help": {"address": "help@acmejets.example", "override": True},
    },
}


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[ControlContext]:
    async with parts_in(tmp_path, DIRECTORY) as parts:
        yield parts


async def items(parts: ControlContext, noun: str, name: str) -> list[dict[str, Any]]:
    return [item async for item in AdminOperations(parts).stream(f"{noun}.authorize", {"name": name})]


@pytest.mark.parametrize(
    ("noun", "name", "words"),
    [
        ("server", "plain", 'has auth = "auto", so there is nothing to authorize'),
        ("channel", "help", 'has auth = "auto", so there is nothing to authorize'),
        ("channel", "sales", "authorize that with: relay server authorize code"),
        ("server", "nameless", "set username first"),
        ("server", "own", "set it with: relay server password own --client-secret"),
        ("agent", "support", "it is one of the channels"),
    ],
)
async def test_what_cannot_be_authorized_says_why(parts: ControlContext, noun: str, name: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        await items(parts, noun, name)
    assert words in str(caught.value)


async def test_a_link_has_a_state_and_a_verifier_of_its_own(parts: ControlContext) -> None:
    (first,), (second,) = await items(parts, "channel", "support"), await items(parts, "channel", "support")
    assert first["flow"] == "code"
    assert first["state"] in first["url"]
    assert first["verifier"] not in first["url"]
    assert (first["state"], first["verifier"]) != (second["state"], second["verifier"])


@pytest.mark.parametrize(
    ("redirect", "words"),
    [
        ("", "copy the whole of it"),
        ("http://localhost/?state=s", "copy the whole of it"),
        ("http://[localhost/?code=c&state=s", "copy the whole of it"),
        ("http://localhost/?code=c", "its state differs"),
        ("http://localhost/?code=c&state=ü", "its state differs"),
        ("http://localhost/?error=access_denied&error_description=No%0Athanks&state=s", "access_denied: No thanks"),
    ],
)
def test_an_address_that_holds_no_code_says_why(redirect: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        code_in(redirect, "s")
    assert words in str(caught.value)


def test_an_address_with_a_code() -> None:
    assert code_in("  http://localhost/?code=a%2Fb&state=s&session=1 \n", "s") == "a/b"


async def test_an_authorized_account_counts_as_set_and_goes_with_its_profile(parts: ControlContext) -> None:
    operations = AdminOperations(parts)
    ref = parts.directory.routing().directory
    support = ref.profile("support")
    assert support is not None
    (record,) = [one for one in await operations.run("channel.list", {}) if one["name"] == "support"]
    assert record["password_set"] is False
    tokens = parts.secrets.tokens
    where = token_ref(ref.servers["code"], support)
    assert where is not None
    await tokens.keep(where, grant())
    await operations.run("server.client_secret", {"name": "own", "secret": "shh"})
    assert (await operations.run("channel.show", {"name": "support"}))["password_set"] is True
    listed = {one["owner"]: one["used"] for one in await operations.run("secrets.list", {})}
    assert listed == {"oauth/profile/support": True, "client/own": True}
    states = {one["account"]: one["state"] for one in (await operations.run("status", {}))["oauth"]}
    assert states == {
        "code/m@acmejets.example": "missing",
        "own/m@acmejets.example": "ok",
        "code/support@acmejets.example": "ok",
    }
    accounts = {one["account"]: one["oauth"] for one in await operations.run("account.list", {})}
    assert accounts["plain/m@acmejets.example"] is None
    assert accounts["code/support@acmejets.example"]["state"] == "ok"
    await operations.run("channel.remove", {"name": "support"})
    await operations.run("server.remove", {"name": "own"})
    assert await operations.run("secrets.list", {}) == []


async def test_an_account_that_logs_in_by_oauth_takes_no_password(parts: ControlContext) -> None:
    with pytest.raises(Refused, match="relay channel authorize support"):
        await AdminOperations(parts).run("channel.password", {"name": "support", "password": "x"})
    with pytest.raises(Refused, match="has no OAuth client"):
        await AdminOperations(parts).run("server.client_secret", {"name": "plain", "secret": "x"})
