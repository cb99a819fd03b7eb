"""A server is tested before it is saved; a saved password never goes where it does not go today."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import Refused
from relay.listener.capture import CaptureServer
from tests.unit.control.control_kit import AdminOperations, operations_in

USER = "mailer@acmejets.example"
SECRET = "geheim-11"


@pytest.fixture
async def upstream() -> AsyncIterator[CaptureServer]:
    server = CaptureServer(passwords={USER: SECRET})
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def form(upstream: CaptureServer) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": upstream.port, "security": "none", "auth": "plain", "username": USER}


@pytest.fixture
async def operations(tmp_path: Path, form: dict[str, Any]) -> AsyncIterator[AdminOperations]:
    from_outside = {**form, "password_from": "env:MAIL_PASSWORD"}
    directory = {"default_server": "main", "servers": {"main": form, "outside": from_outside}}
    async with operations_in(tmp_path, directory) as operations:
        await operations.run("server.password", {"name": "main", "password": SECRET})
        yield operations


async def _steps(operations: AdminOperations, values: dict[str, Any], **params: Any) -> list[tuple[str, bool]]:
    asked = {"values": values, "to": "you@customer.example", **params}
    steps = [step async for step in operations.stream("server.try", asked)]
    assert SECRET not in str(steps)
    return [(step["step"], step["ok"]) for step in steps]


async def test_a_form_is_tested_with_its_password_and_nothing_is_saved(
    operations: AdminOperations, upstream: CaptureServer, form: dict[str, Any]
) -> None:
    before = await operations.run("server.list", {})
    steps = await _steps(operations, form, password=SECRET)
    assert [step for step, _ in steps] == ["resolve", "connect", "ehlo", "login", "mail", "rcpt", "message"]
    assert all(ok for _, ok in steps)
    [message] = upstream.messages
    assert (message.login, message.recipients) == (USER, ("you@customer.example",))
    assert await operations.run("server.list", {}) == before


async def test_without_sending_it_stops_before_the_message(
    operations: AdminOperations, upstream: CaptureServer, form: dict[str, Any]
) -> None:
    assert (await _steps(operations, form, password=SECRET, send=False))[-1] == ("send-as", True)
    assert upstream.messages == []


async def test_a_wrong_or_missing_password_fails_at_the_login(
    operations: AdminOperations, form: dict[str, Any]
) -> None:
    assert (await _steps(operations, form, password="wrong"))[-1] == ("login", False)
    assert (await _steps(operations, form))[-1] == ("login", False)


async def test_the_saved_password_is_taken_where_it_goes_already(
    operations: AdminOperations, form: dict[str, Any]
) -> None:
    assert (await _steps(operations, {**form, "max_connections": 9}, name="main"))[-1] == ("message", True)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"host": "localhost"}, "the host is different"),
        ({"port": 9}, "the port is different"),
        ({"username": "other@acmejets.example"}, "the user name is different"),
        ({"security": "starttls"}, "the security is different"),
        ({"security": "tls", "verify_tls": False}, "the security and the check of the certificate are different"),
        ({"allow_plaintext_password": True}, "the leave for passwords in plain text is different"),
    ],
)
async def test_the_saved_password_goes_nowhere_else(
    operations: AdminOperations, upstream: CaptureServer, form: dict[str, Any], changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match=f"enter the password for this test; .* {words}"):
        await _steps(operations, {**form, **changed}, name="main")
    assert (await _steps(operations, {**form, **changed}, name="main", password="own"))[-1][1] is False


async def test_a_source_outside_is_not_asked_for_another_place(
    operations: AdminOperations, form: dict[str, Any], upstream: CaptureServer
) -> None:
    values = {**form, "password_from": "env:MAIL_PASSWORD"}
    assert (await _steps(operations, values, name="outside"))[-1] == ("login", False), "it says another password"
    with pytest.raises(Refused, match="the host is different"):
        await _steps(operations, {**values, "host": "localhost"})
    assert (await _steps(operations, {**values, "host": "localhost"}, password=SECRET))[-1] == ("message", True)


async def test_what_is_wrong_with_the_values_is_told_by_key(operations: AdminOperations, form: dict[str, Any]) -> None:
    wrong = {**form, "port": 99999, "hots": "x", "security": "ssl"}
    with pytest.raises(Refused) as refused:
        await _steps(operations, wrong, password=SECRET)
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["hots", "port", "security"]
    with pytest.raises(Refused, match="host: this key is needed"):
        await _steps(operations, {})
    with pytest.raises(Refused, match="allow_plaintext_password"):
        await _steps(operations, {**form, "host": "mail.far.example"}, password=SECRET)
    with pytest.raises(Refused, match="give the password beside the values"):
        await _steps(operations, {**form, "password": SECRET})
    with pytest.raises(Refused, match="a password is one line"):
        await _steps(operations, form, password="a\nb")
    with pytest.raises(Refused, match="there is no server 'mian'"):
        await _steps(operations, form, name="mian")


async def test_a_login_by_oauth_is_tested_when_it_is_saved(operations: AdminOperations, form: dict[str, Any]) -> None:
    oauth = {"provider": "google", "client_id": "c"}
    values = {"host": "smtp.gmail.com", "auth": "oauth2", "username": USER, "oauth": oauth}
    with pytest.raises(Refused, match="a login by OAuth can be tested when the server is saved"):
        await _steps(operations, values, password=SECRET)
