"""The test of a server as people see it: each step, and the server's own words where one fails."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.directory.model import Account, Auth, Security
from relay.mail.address import Address
from relay.mail.content import Content
from relay.upstream.probe import probe
from relay.upstream.steps import Certificate, Step
from tests.dialogs.upstream.upstream_kit import (
    CONTENT,
    FAST,
    RAW,
    SECRET,
    SILENCE,
    Certificates,
    Drop,
    ScriptedServer,
    scripted,
    server_at,
)

pytestmark = pytest.mark.timeout(60)
SENDER = Address.parse("support@acme.example")
RECIPIENT = Address.parse("jo@there.example")


async def steps_of(
    server: ScriptedServer,
    *,
    recipient: Address | None = RECIPIENT,
    content: Content | None = CONTENT,
    **settings: Any,
) -> list[Step]:
    target = server_at(server.port, **{"auth": Auth.PLAIN} | settings)
    probing = probe(
        target,
        Account("acme", "mailer"),
        SECRET,
        hello="relay.example",
        sender=SENDER,
        recipient=recipient,
        content=content,
        timeouts=FAST,
    )
    return [step async for step in probing]


def names(steps: list[Step]) -> list[str]:
    return [step.step if step.ok else step.step + "!" for step in steps]


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
async def test_every_step_is_told(certificates: Certificates, security: Security) -> None:
    async with scripted(
        tls=certificates.good, implicit=security is Security.TLS, offers=("STARTTLS", "AUTH PLAIN", "SIZE 99999")
    ) as server:
        steps = await steps_of(server, security=security, ca_file=certificates.ca_file, host="localhost")
        assert names(steps) == ["resolve", "connect", "tls", "ehlo", "login", "mail", "rcpt", "message"]
        said = {step.step: step.detail for step in steps}
        assert "127.0.0.1" in said["resolve"]
        assert said["connect"] == "connected to 127.0.0.1"
        assert said["tls"].startswith("TLSv1.")
        assert "trustme" in said["tls"]
        assert "more days" in said["tls"]
        assert "AUTH PLAIN" in said["ehlo"]
        assert "SIZE 99999" in said["ehlo"]
        assert said["login"] == "logged in as mailer by plain"
        assert said["message"] == "sent: 250 2.0.0 taken as 4711"
        assert server.messages == [RAW]
        assert server.verbs[0][-1] == "QUIT"


async def test_without_tls_and_login_there_are_no_such_steps() -> None:
    async with scripted(offers=()) as server:
        steps = await steps_of(server, auth=Auth.NONE)
        assert names(steps) == ["resolve", "connect", "ehlo", "mail", "rcpt", "message"]


async def test_no_content_stops_before_data_and_takes_it_back() -> None:
    async with scripted() as server:
        steps = await steps_of(server, content=None)
        assert names(steps)[-1] == "rcpt"
        assert server.verbs[0][-3:] == ["RCPT", "RSET", "QUIT"]


async def test_no_recipient_stops_after_the_login() -> None:
    async with scripted() as server:
        steps = await steps_of(server, recipient=None)
        assert names(steps)[-1] == "login"
        assert server.verbs[0][-2:] == ["AUTH", "QUIT"]


@pytest.mark.parametrize(
    ("key", "step", "before"),
    [
        ("greeting", "ehlo", 2),
        ("EHLO", "ehlo", 2),
        ("AUTH", "login", 3),
        ("MAIL", "mail", 4),
        ("RCPT", "rcpt", 5),
        ("DATA", "message", 6),
        (".", "message", 6),
    ],
)
async def test_the_step_that_fails_is_the_last_and_in_the_servers_words(key: str, step: str, before: int) -> None:
    async with scripted(answers={key: b"550 5.7.1 not with us\r\n"}) as server:
        steps = await steps_of(server)
        assert names(steps)[-1] == step + "!"
        assert all(each.ok for each in steps[:-1])
        assert len(steps) == before + 1
        assert steps[-1].detail == "550 5.7.1 not with us"
        assert SECRET.value not in repr(steps)


async def test_our_own_words_have_the_reason() -> None:
    async with scripted(answers={"MAIL": Drop()}) as server:
        last = (await steps_of(server))[-1]
        assert (last.step, last.ok) == ("mail", False)
        assert last.detail.startswith("The connection to the mail server was lost: ")


async def test_a_server_that_is_not_there_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    steps = await steps_of(ScriptedServer(port=port))
    assert names(steps) == ["resolve", "connect!"]
    assert steps[-1].detail == f"The mail server cannot be reached: connection refused by 127.0.0.1 port {port}"


async def test_a_silent_server_is_told_in_words() -> None:
    async with scripted(answers={"greeting": SILENCE}) as server:
        last = (await steps_of(server))[-1]
        reason = f"no answer from 127.0.0.1 port {server.port} within {FAST.reply:g} s"
        assert last.detail == f"The mail server did not answer in time: {reason}"


async def test_a_certificate_for_another_name(certificates: Certificates) -> None:
    async with scripted(tls=certificates.wrong_name, offers=("STARTTLS",)) as server:
        steps = await steps_of(server, security=Security.STARTTLS, ca_file=certificates.ca_file)
        assert names(steps) == ["resolve", "connect", "tls!"]
        assert "not valid for '127.0.0.1'" in steps[-1].detail


async def test_an_unchecked_certificate_is_shown_as_such(certificates: Certificates) -> None:
    async with scripted(tls=certificates.wrong_name, offers=("STARTTLS", "AUTH PLAIN")) as server:
        steps = await steps_of(server, security=Security.STARTTLS, verify_tls=False)
        assert "not checked" in steps[2].detail


async def test_what_the_server_lacks_is_said() -> None:
    async with scripted(offers=("AUTH LOGIN",)) as server:
        last = (await steps_of(server))[-1]
        assert last.detail.endswith("the server offers LOGIN, and plain was to be used")


async def test_leaving_early_closes_the_connection() -> None:
    async with scripted() as server:
        target = server_at(server.port)
        probing = probe(
            target,
            Account("acme", ""),
            None,
            hello="relay.example",
            sender=None,
            recipient=RECIPIENT,
            content=CONTENT,
            timeouts=FAST,
        )
        async for step in probing:
            if step.step == "mail":
                break
        await probing.aclose()
        async with asyncio.timeout(20):
            await asyncio.wait(server.tasks)
        assert server.messages == []


def test_days_left_count_down_to_the_end() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert Certificate("a", "b", now + timedelta(days=10, hours=5)).days_left(now) == 10
    assert Certificate("a", "b", now - timedelta(hours=1)).days_left(now) == -1
