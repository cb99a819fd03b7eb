"""An examination of a server: what it says and never sends, and what the doctor makes of what it saw."""

import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.directory.model import Account, Auth, Security, Server
from relay.doctor.finding import Check, Finding, Level
from relay.doctor.providers import PROVIDERS, provider_of, send_as_advice
from relay.doctor.server import Examination, check_login, check_send_as, check_server, examine
from relay.mail.address import Address
from relay.upstream.outcome import Tls
from relay.upstream.steps import Certificate
from tests.dialogs.upstream.upstream_kit import FAST, SECRET, Drop, ScriptedServer, scripted, server_at

SUPPORT, SALES = Address.parse("support@acme.example"), Address.parse("sales@acme.example")
NOT_OURS = b"553 5.7.1 <sales@acme.example>: Sender address rejected: not owned by user mailer\r\n"


async def seen_at(server: ScriptedServer, *senders: Address, **settings: Any) -> tuple[Server, Examination]:
    target = server_at(server.port, **{"auth": Auth.PLAIN} | settings)
    account = Account(target.name, target.username)
    return target, await examine(target, account, SECRET, senders, hello="relay.example", timeouts=FAST)


def send_as(server: Server, seen: Examination, sender: Address) -> Finding | None:
    return check_send_as(server, seen, sender, "mailer@acme.example", command="relay server test acme --to ADDRESS")


async def test_every_address_is_asked_about_on_one_connection_and_nothing_is_sent() -> None:
    async with scripted(answers={"MAIL": [b"250 fine\r\n", NOT_OURS]}) as server:
        target, seen = await seen_at(server, SUPPORT, SALES)
        assert server.verbs == [["EHLO", "AUTH", "MAIL", "RCPT", "RSET", "MAIL", "RSET", "QUIT"]]
        assert server.messages == []
        first, second = send_as(target, seen, SUPPORT), send_as(target, seen, SALES)
        assert first is not None
        assert first.level is Level.GOOD
        assert "nothing was sent" in first.why
        assert second is not None
        assert second.level is Level.BAD
        assert "not owned by user mailer" in second.why
        assert "log in with the account of the address" in second.fix


async def test_login_name_envelope_and_from_are_three_things() -> None:
    async with scripted() as server:
        await seen_at(server, SUPPORT, username="delegate@acme.example")
        assert "MAIL FROM:<support@acme.example>" in server.commands[0][2]


async def test_an_own_mailbox_that_takes_no_mail_is_a_warning() -> None:
    async with scripted(answers={"RCPT": b"550 5.1.1 no such user\r\n"}) as server:
        found = send_as(*await seen_at(server, SUPPORT), SUPPORT)
        assert found is not None
        assert found.level is Level.WARN
        assert "no such user" in found.why


@pytest.mark.parametrize(
    ("answers", "level", "why"),
    [
        ({"MAIL": b"451 4.3.0 not now\r\n"}, Level.WARN, "is not known: 451 4.3.0 not now"),
        ({"MAIL": b"530 5.7.0 log in first\r\n"}, Level.BAD, "the server asks for a login"),
        ({"MAIL": Drop()}, Level.WARN, "the server broke off"),
        ({"RCPT": b"421 4.7.0 too much\r\n"}, Level.WARN, "the server broke off: 421"),
    ],
)
async def test_other_answers_to_an_address(answers: Any, level: Level, why: str) -> None:
    async with scripted(answers=answers) as server:
        found = send_as(*await seen_at(server, SUPPORT), SUPPORT)
        assert found is not None
        assert found.level is level
        assert why in found.why


@pytest.mark.parametrize(
    ("answer", "level", "why"),
    [
        (b"535 5.7.8 wrong\r\n", Level.BAD, "the login is refused: 535 5.7.8 wrong"),
        (b"454 4.7.0 later\r\n", Level.WARN, "the login does not work now: 454 4.7.0 later"),
    ],
)
async def test_a_login_that_fails(answer: bytes, level: Level, why: str) -> None:
    async with scripted(answers={"AUTH": answer}) as server:
        target, seen = await seen_at(server, SUPPORT)
        found = check_login(target, seen, command="relay server password acme")
        assert found is not None
        assert (found.level, found.why) == (level, why)
        assert seen.is_at_login
        assert not seen.is_turned_away
        assert [each.level for each in check_server(target, seen)] == [Level.GOOD, Level.GOOD]
        assert send_as(target, seen, SUPPORT) is None


async def test_a_server_without_the_mechanism_says_what_it_offers() -> None:
    async with scripted(offers=("AUTH LOGIN",)) as server:
        target, seen = await seen_at(server, SUPPORT)
        found = check_login(target, seen, command="relay server password acme")
        assert found is not None
        assert "the server offers LOGIN" in found.why
        assert "choose an auth" in found.fix


async def test_a_server_that_is_not_there_has_one_finding() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    target, seen = await seen_at(ScriptedServer(port=port), SUPPORT)
    (found,) = check_server(target, seen)
    assert (found.check, found.level) == (Check.SERVER, Level.BAD)
    assert "connection refused" in found.why
    assert seen.is_turned_away
    assert check_login(target, seen, command="x") is None


@pytest.mark.parametrize(
    ("days", "verify", "level"), [(90, True, Level.GOOD), (13, True, Level.WARN), (90, False, Level.WARN)]
)
def test_the_days_of_a_certificate(days: int, verify: bool, level: Level) -> None:
    expires = datetime.now(UTC) + timedelta(days=days, hours=1)
    server = Server(name="acme", host="mail.acme.example", verify_tls=verify)
    seen = Examination(tls=Tls("TLSv1.3", "x"), certificate=Certificate("a", "b", expires), mechanism="plain")
    found = {finding.check: finding for finding in check_server(server, seen)}
    assert found[Check.CERTIFICATE].level is level
    assert found[Check.TLS].level is Level.GOOD


def test_without_tls_is_a_warning_unless_the_server_is_here() -> None:
    def level(host: str) -> Level:
        server = Server(name="acme", host=host, security=Security.NONE, auth=Auth.NONE)
        return next(each.level for each in check_server(server, Examination()) if each.check is Check.TLS)

    assert level("127.0.0.1") is Level.GOOD
    assert level("mail.acme.example") is Level.WARN


@pytest.mark.parametrize(
    ("host", "sender", "level"),
    [
        ("smtp.office365.com", "support@acme.example", Level.WARN),
        ("smtp.office365.com", "mailer@acme.example", Level.GOOD),
        ("smtp.office365.com", "MAILER+tag@acme.example", Level.GOOD),
        ("mail.acme.example", "support@acme.example", Level.GOOD),
    ],
)
def test_what_a_provider_judges_later_is_not_proven(host: str, sender: str, level: Level) -> None:
    address = Address.parse(sender)
    found = send_as(Server(name="acme", host=host), Examination(mechanism="plain", asked=(address,)), address)
    assert found is not None
    assert found.level is level
    if level is Level.WARN:
        assert "judges From only when a message is sent" in found.why
        assert "Send As permission" in found.fix
        assert found.fix.endswith("relay server test acme --to ADDRESS")


def test_providers_are_known_by_their_hosts() -> None:
    names = {
        "smtp.gmail.com": "Google",
        "SMTP.Office365.com.": "Microsoft 365",
        "email-smtp.eu-west-1.amazonaws.com": "Amazon SES",
        "smtp.zoho.eu": "Zoho",
    }
    for host, name in names.items():
        provider = provider_of(host)
        assert provider is not None
        assert provider.name == name
    assert provider_of("notsmtp.gmail.com") is None
    assert provider_of("mail.smtp.gmail.com") is None
    assert provider_of("xamazonaws.com") is None
    assert "verify the address or its domain" in send_as_advice("email-smtp.eu-west-1.amazonaws.com")


def test_no_host_is_of_two_providers() -> None:
    hosts = [host for provider in PROVIDERS for host in provider.hosts]
    assert len(hosts) == len(set(hosts))
    assert all(provider_of(host) is provider for provider in PROVIDERS for host in provider.hosts)
