"""REQUIRETLS towards a server (RFC 8689): promised, refused, and what a message's own wish cannot loosen."""

from typing import Any

import pytest

from relay.directory.model import Meaning, Security
from relay.mail.content import Content
from relay.upstream.outcome import Outcome, Phase
from relay.upstream.pool import Upstream
from relay.upstream.transaction import RequireTls
from tests.dialogs.upstream.upstream_kit import FAST, Certificates, ScriptedServer, scripted, server_at, transfer_to

pytestmark = pytest.mark.timeout(60)

OFFERED = ("8BITMIME", "REQUIRETLS")
REFUSAL = "550 5.7.30 REQUIRETLS is not supported by the outgoing mail server"


async def deliver(server: ScriptedServer, security: Security, settings: dict[str, Any], **changes: Any) -> Outcome:
    way_out = Upstream("relay.example", FAST)
    try:
        return await way_out.deliver(transfer_to(server_at(server.port, security=security, **settings), **changes))
    finally:
        await way_out.aclose()


def said_at_mail(server: ScriptedServer) -> list[str]:
    return [line for line in server.lines[-1].commands if line.startswith("MAIL ")]


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
async def test_a_server_that_offers_it_within_checked_tls_is_told(
    security: Security, certificates: Certificates
) -> None:
    implicit = security is Security.TLS
    offers = OFFERED if implicit else ("STARTTLS",)
    async with scripted(tls=certificates.good, implicit=implicit, offers=offers, offers_in_tls=OFFERED) as server:
        settings = {"ca_file": certificates.ca_file}
        outcome = await deliver(server, security, settings, require_tls=RequireTls.ALWAYS)
        assert outcome.accepted
        assert said_at_mail(server) == ["MAIL FROM:<support@acme.example> REQUIRETLS"]


async def test_nobody_is_told_who_was_not_asked(certificates: Certificates) -> None:
    async with scripted(tls=certificates.good, implicit=True, offers=OFFERED) as server:
        outcome = await deliver(server, Security.TLS, {"ca_file": certificates.ca_file})
        assert outcome.accepted
        assert said_at_mail(server) == ["MAIL FROM:<support@acme.example>"]


@pytest.mark.parametrize(
    ("security", "offers", "settings", "detail"),
    [
        (Security.TLS, ("8BITMIME",), {}, "no REQUIRETLS in EHLO"),
        (Security.TLS, OFFERED, {"verify_tls": False}, "no TLS with a checked certificate"),
        (Security.NONE, OFFERED, {}, "no TLS with a checked certificate"),
    ],
)
async def test_a_way_that_does_not_promise_it_refuses_the_message_for_good(
    security: Security, offers: tuple[str, ...], settings: dict[str, Any], detail: str, certificates: Certificates
) -> None:
    tls = certificates.good if security is Security.TLS else None
    async with scripted(tls=tls, implicit=tls is not None, offers=offers) as server:
        known = {"ca_file": certificates.ca_file} if settings.get("verify_tls", True) and tls else {}
        outcome = await deliver(server, security, known | settings, require_tls=RequireTls.ALWAYS)
        failure = outcome.failure
        assert failure is not None
        assert (str(failure.reply), failure.detail) == (REFUSAL, detail)
        assert (failure.phase, failure.meaning, failure.from_server) == (Phase.MAIL, Meaning.REFUSED, False)
        assert said_at_mail(server) == []


@pytest.mark.parametrize(("offers", "said"), [(OFFERED, " REQUIRETLS"), (("8BITMIME",), "")])
async def test_a_bounce_says_it_where_it_can_and_travels_without_it_too(
    offers: tuple[str, ...], said: str, certificates: Certificates
) -> None:
    async with scripted(tls=certificates.good, implicit=True, offers=offers) as server:
        settings = {"ca_file": certificates.ca_file}
        outcome = await deliver(server, Security.TLS, settings, require_tls=RequireTls.WHERE_OFFERED, sender=None)
        assert outcome.accepted
        assert said_at_mail(server) == [f"MAIL FROM:<>{said}"]


async def test_a_header_that_wants_no_tls_loosens_nothing_and_leaves_as_it_came() -> None:
    content = Content(b"From: a@b.example\r\nTLS-Required: No\r\n", (b"hello\r\n",))
    async with scripted(offers=("8BITMIME",)) as server:
        outcome = await deliver(server, Security.STARTTLS, {}, content=content)
        assert outcome.failure is not None
        assert str(outcome.failure.reply).startswith("451 4.7.4 ")
        assert said_at_mail(server) == []
        assert (await deliver(server, Security.NONE, {}, content=content)).accepted
        assert server.messages == [b"From: a@b.example\r\nTLS-Required: No\r\n\r\nhello\r\n.\r\n"]
