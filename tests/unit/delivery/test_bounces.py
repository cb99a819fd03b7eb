"""The bounce of a mail server behind us leaves as one of ours, also where its From is nobody's address here."""

from dataclasses import replace

import pytest

from relay.directory.client import Client
from relay.directory.model import Mode
from relay.mail.content import Content
from relay.mail.identity import Mismatch
from relay.mail.reply import Reply
from tests.unit.delivery.bench_kit import CLIENT, Bench, Maker, arrival_now, complete, envelope_of

# As Postfix writes it.
POSTFIX = "MAILER-DAEMON@mail.acmejets.example (Mail Delivery System)"
EXIM = "Mail Delivery System <Mailer-Daemon@mail.acmejets.example>"
EXCHANGE = "postmaster@corp.example"
UNKNOWN_SYSTEM = "MicrosoftExchange329e71@corp.example"
SUPPORT, MAILER, HOUSE = "support@acmejets.example", "mailer@acmejets.example", "house@acmejets.example"
BILLING_ONLY = replace(CLIENT, may_send_as=("billing",))


async def bounce(bench: Bench, author: str, to: str, client: Client = CLIENT) -> Reply:
    content = Content(f"From: {author}\r\nSubject: Undelivered Mail\r\n".encode(), (b"It came back\r\n",))
    return await complete(bench.acceptance.open(client, envelope_of(None, to), arrival_now()), content)


@pytest.mark.parametrize("mismatch", Mismatch)
@pytest.mark.parametrize(
    ("author", "to", "client", "identity"),
    [
        (POSTFIX, SUPPORT, CLIENT, SUPPORT),
        (POSTFIX, "Support+4711@acmejets.example", CLIENT, SUPPORT),
        (EXIM, "billing@acmejets.example", CLIENT, MAILER),
        (EXCHANGE, SUPPORT, CLIENT, SUPPORT),
        (EXIM, f"else@customer.example,{SUPPORT}", CLIENT, SUPPORT),
        (EXIM, "bare@acmejets.example", CLIENT, MAILER),  # it has no password, and a bounce is not lost for that
        (EXIM, "root@mail.acmejets.example", CLIENT, MAILER),
        (EXIM, SUPPORT, replace(CLIENT, bounces="news"), HOUSE),
        (UNKNOWN_SYSTEM, "root@mail.acmejets.example", replace(CLIENT, bounces="news"), HOUSE),
        (EXIM, "billing@acmejets.example", BILLING_ONLY, MAILER),
        (EXIM, "else@customer.example", replace(BILLING_ONLY, bounces="support"), SUPPORT),
    ],
)
async def test_a_bounce_leaves(
    make_bench: Maker, author: str, to: str, client: Client, identity: str, mismatch: Mismatch
) -> None:
    bench = make_bench()
    bench.acceptance.attempts.mismatch = mismatch
    reply = await bounce(bench, author, to, client)
    assert reply.code == 250, reply
    (transfer,) = bench.upstream.transfers
    assert transfer.sender is None
    lines = transfer.content.header.decode().split("\r\n")
    (written,) = [line for line in lines if line.startswith("From:")]
    assert written.endswith(f"<{identity}>") or written == f"From: {identity}"
    assert "mail.acmejets" not in written


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(
    ("author", "to", "client", "text"),
    [
        (EXIM, SUPPORT, BILLING_ONLY, "no channel or agent sends from this address"),
        (EXIM, "else@customer.example", BILLING_ONLY, "no channel or agent sends from this address"),
        ("boss@corp.example", SUPPORT, CLIENT, "no channel or agent sends from this address"),
        (UNKNOWN_SYSTEM, SUPPORT, CLIENT, "no channel or agent sends from this address"),
        (SUPPORT, "billing@acmejets.example", BILLING_ONLY, "may not send as this address"),
        (SUPPORT, "billing@acmejets.example", replace(BILLING_ONLY, bounces="billing"), "may not send as this address"),
        (f"{EXIM}, boss@corp.example", SUPPORT, CLIENT, "needs one From address"),
        (EXIM, SUPPORT, replace(BILLING_ONLY, bounces="bare"), "no email password is configured"),
    ],
)
async def test_what_is_no_bounce_or_may_not_leave_is_refused(
    make_bench: Maker, author: str, to: str, client: Client, text: str, mode: Mode
) -> None:
    bench = make_bench(mode=mode)
    reply = await bounce(bench, author, to, client)
    assert (reply.code, bench.upstream.transfers) == (550, [])
    assert text in reply.text


async def test_mail_that_is_no_bounce_may_not_bear_the_name_of_a_mail_system(make_bench: Maker) -> None:
    """The exception is for the null sender alone."""
    bench = make_bench()
    bench.acceptance.attempts.mismatch = Mismatch.REJECT
    content = Content(f"From: {EXIM}\r\n".encode(), (b"It came back\r\n",))
    assert (await bench.send(SUPPORT, content)).code == 550
