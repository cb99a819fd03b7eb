"""A message goes to Mailgun: what leaves, for whom, with which key, and what the answers mean."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.directory.model import Kind, Meaning, Server
from relay.mail.address import Address
from relay.mail.content import Content
from relay.secrets.secret import Secret
from relay.upstream.http.probe import probe_api
from relay.upstream.outcome import Phase, named_window
from relay.upstream.transaction import Progress, Transfer
from tests.peers.mailgun import MailgunServer, mailgun_server
from tests.peers.rows import each_row
from tests.unit.upstream.http.api_kit import HEADER, ME, deliver, transfer_to, with_header

SECRET = Secret("right", "v1")
DOMAIN = "mg.acme.example"
NOT_ALLOWED = "Domain mg.x is not allowed to send:"


@pytest.fixture
def mailgun() -> Iterator[MailgunServer]:
    with mailgun_server() as server:
        yield server


def at(mailgun: MailgunServer, *recipients: str, username: str = DOMAIN, **facts: Any) -> Transfer:
    """One message for these recipients."""
    server = Server(name="mailgun", kind=Kind.HTTPS, api="mailgun", api_url=mailgun.url, username=username, address=ME)
    return transfer_to(server, *recipients, **{"secret": SECRET, **facts})


@pytest.mark.parametrize("username", [DOMAIN, f"support@{DOMAIN}"])
async def test_what_leaves_is_the_very_message_for_its_envelope(mailgun: MailgunServer, username: str) -> None:
    content = with_header("Cc: Eve <eve@elsewhere.example>")
    people = ("jo@customer.example", "jürgen@customer.example", '"a,b"@customer.example')
    outcome = await deliver(at(mailgun, *people, content=content, username=username))
    assert str(outcome.accepted) == "250 2.0.0 accepted by Mailgun as <1@acme.example> (HTTP status 200)"
    (sent,) = mailgun.sent
    assert (sent.domain, sent.mime, sent.sender) == (DOMAIN, b"".join(content.chunks()), ME)
    assert sent.recipients == people


async def test_ten_megabytes_arrive_octet_for_octet(mailgun: MailgunServer) -> None:
    content = Content(HEADER, (b"x" * 998 + b"\r\n",) * 10_000)
    seen: list[int] = []

    async def gate() -> None:
        seen.append(len(mailgun.sent))

    await deliver(at(mailgun, content=content), Progress(before_final_dot=gate))
    assert (mailgun.sent[0].mime, seen) == (b"".join(content.chunks()), [0])


@each_row(
    ("mood", "meaning", "reply", "phase"),
    [
        (f"420 {NOT_ALLOWED} recipient limit exceeded, try again after Wed", Meaning.QUOTA, "452 4.5.3", Phase.MAIL),
        ("429 Too many requests", Meaning.THROTTLE, "450 4.7.0", Phase.MAIL),
        (f"403 {NOT_ALLOWED} add it to authorized recipients", Meaning.REFUSED, "550 5.7.1", Phase.CONTENT),
        (f"403 {NOT_ALLOWED} your account is disabled", Meaning.LOCK_OUT, "550 5.7.1", Phase.MAIL),
        ("402 Payment required", Meaning.LOCK_OUT, "550 5.7.1", Phase.MAIL),
        ("413 Request Entity Too Large", Meaning.REFUSED, "552 5.3.4", Phase.CONTENT),
        ("400 'to' parameter is not a valid address", Meaning.REFUSED, "550 5.1.3", Phase.CONTENT),
        ("400 something else", Meaning.REFUSED, "554 5.6.0", Phase.CONTENT),
        ("500 Internal", Meaning.UNKNOWN, "451 4.4.2", Phase.FINAL),
        ("503 Unavailable", Meaning.TEMPORARY, "451 4.3.0", Phase.MAIL),
    ],
)
async def test_what_an_error_means(
    mailgun: MailgunServer, mood: str, meaning: Meaning, reply: str, phase: Phase
) -> None:
    mailgun.moods = [mood]
    failure = (await deliver(at(mailgun))).failure
    assert failure is not None
    assert (failure.meaning, str(failure.reply)[: len(reply)], failure.phase) == (meaning, reply, phase)
    assert mood.partition(" ")[2] in failure.reply.text


@each_row(
    ("after", "least", "most"),
    [(timedelta(minutes=90), 5000, 5400), (timedelta(days=400), 999_999, 999_999), (timedelta(days=-1), 0, 0)],
)
async def test_the_time_that_a_limit_names_is_the_window(
    mailgun: MailgunServer, after: timedelta, least: int, most: int
) -> None:
    when = f"{datetime.now(UTC) + after:%a, %d %b %Y %H:%M:%S UTC}"
    mailgun.moods = [f"420 {NOT_ALLOWED} recipient limit exceeded, try again after {when}"]
    failure = (await deliver(at(mailgun))).failure
    assert failure is not None
    assert least <= (named_window(failure.reply.text) or 0) <= most


async def test_a_time_that_is_none_is_no_window(mailgun: MailgunServer) -> None:
    mailgun.moods = [f"420 {NOT_ALLOWED} recipient limit exceeded, try again after Mon, 99 Foo 2025 07:00:31 UTC"]
    failure = (await deliver(at(mailgun))).failure
    assert failure is not None
    assert (failure.meaning, named_window(failure.reply.text)) == (Meaning.QUOTA, None)


@each_row(
    ("username", "key", "words"), [(DOMAIN, "wrong", "Forbidden"), ("other.example", "right", "Domain not found")]
)
async def test_a_wrong_key_or_domain_is_a_refused_login(
    mailgun: MailgunServer, username: str, key: str, words: str
) -> None:
    failure = (await deliver(at(mailgun, username=username, secret=Secret(key, "v1")))).failure
    assert failure is not None
    assert (failure.meaning, failure.phase) == (Meaning.LOGIN_REFUSED, Phase.LOGIN)
    assert words in failure.reply.text


@pytest.mark.parametrize("mood", ["lost after", "504 after"])
async def test_a_lost_answer_is_asked_for_at_once(mailgun: MailgunServer, mood: str) -> None:
    mailgun.moods = [mood]
    outcome = await deliver(at(mailgun, "jo@customer.example", "hidden@customer.example"))
    assert outcome.accepted is not None
    assert "sent already" in outcome.accepted.text
    assert len(mailgun.sent) == 1


async def test_before_a_retry_its_events_are_asked_where_the_key_may(mailgun: MailgunServer) -> None:
    await deliver(at(mailgun))
    await deliver(at(mailgun, since=datetime.now(UTC)))
    assert [one.recipients for one in mailgun.sent] == [("jo@customer.example",)]
    await deliver(at(mailgun, since=datetime.now(UTC) + timedelta(minutes=2)))  # another one that bears its Message-ID
    await deliver(at(mailgun, "jo@customer.example", "two@customer.example", since=datetime.now(UTC)))
    mailgun.sending_keys = {"right"}
    await deliver(at(mailgun, since=datetime.now(UTC)))
    assert [len(one.recipients) for one in mailgun.sent] == [1, 1, 2, 1]


async def test_a_test_sends_to_nobody_and_takes_a_sending_key(mailgun: MailgunServer) -> None:
    mailgun.sending_keys = {"right"}
    transfer = at(mailgun)

    async def steps(key: str) -> dict[str, tuple[bool, str]]:
        found = probe_api(
            transfer.server, transfer.account, Secret(key, "v1"), transfer.sender, Address.parse(ME), None
        )
        return {step.step: (step.ok, step.detail) async for step in found}

    assert (await steps("right"))["login"] == (True, f"logged in as {DOMAIN}: the key is good for {DOMAIN}")
    assert (await steps("right"))["mail"] == (True, f"mail leaves by the domain {DOMAIN}, whatever its From says")
    assert (await steps("wrong"))["login"][0] is False
    assert mailgun.sent == ()
