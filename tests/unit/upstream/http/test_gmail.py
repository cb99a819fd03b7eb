"""A message goes to Gmail: what leaves, for whom, as whom, and what its answers mean."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.directory.model import Account, Auth, Kind, Meaning, Server
from relay.directory.tables import OAuthClient
from relay.mail.address import Address
from relay.mail.content import Content
from relay.upstream.outcome import Phase
from relay.upstream.transaction import Progress, Transfer
from tests.peers.gmail import GmailServer, gmail_server
from tests.peers.rows import each_row
from tests.unit.upstream.http.api_kit import CONTENT, HEADER, ME, deliver, transfer_to


@pytest.fixture
def gmail() -> Iterator[GmailServer]:
    with gmail_server() as server:
        yield server


def at(gmail: GmailServer, *recipients: str, **facts: Any) -> Transfer:
    oauth = OAuthClient(provider="google", client_id="app")
    server = Server(name="gmail", kind=Kind.GMAIL, api_url=gmail.url, auth=Auth.OAUTH2, username=ME, oauth=oauth)
    return transfer_to(server, *recipients, account=Account("gmail", ME), **facts)


async def test_what_leaves_is_the_very_message(gmail: GmailServer) -> None:
    outcome = await deliver(at(gmail))
    assert str(outcome.accepted) == "250 2.0.0 accepted by Gmail (HTTP status 200)"
    (sent,) = gmail.sent
    assert (sent.mime, sent.user, sent.recipients) == (b"".join(CONTENT.chunks()), ME, ("jo@customer.example",))


async def test_who_is_not_named_gets_it_by_bcc(gmail: GmailServer) -> None:
    await deliver(at(gmail, "jo@customer.example", "hidden@customer.example"))
    assert gmail.sent[0].recipients == ("jo@customer.example", "hidden@customer.example")


async def test_a_large_message_goes_by_a_resumable_upload(gmail: GmailServer) -> None:
    content = Content(HEADER, (b"x" * 998 + b"\r\n",) * 10_000)
    seen: list[int] = []

    async def gate() -> None:
        seen.append(len(gmail.sent))

    outcome = await deliver(at(gmail, content=content), Progress(before_final_dot=gate))
    assert outcome.accepted is not None
    assert (gmail.sent[0].mime, seen) == (b"".join(content.chunks()), [0])
    assert [asked[:4] for asked in gmail.requests] == ["POST", "PUT "]


async def test_what_is_too_large_is_refused_here(gmail: GmailServer) -> None:
    content = Content(HEADER, (b"x" * 65_534 + b"\r\n",) * 570)
    failure = (await deliver(at(gmail, content=content))).failure
    assert failure is not None
    assert (failure.meaning, failure.reply.code) == (Meaning.REFUSED, 552)
    assert gmail.requests == []


async def test_an_address_that_is_not_verified_is_not_sent_as_another(gmail: GmailServer) -> None:
    sender = Address.parse("sales@acme.example")
    failure = (await deliver(at(gmail, sender=sender))).failure
    assert failure is not None
    assert (failure.meaning, failure.phase) == (Meaning.IDENTITY_REFUSED, Phase.MAIL)
    assert failure.reply.text == "sales@acme.example is no verified address of the Gmail account support@acme.example"
    assert gmail.sent == ()


async def test_a_verified_address_is_looked_up_once(gmail: GmailServer) -> None:
    gmail.accounts[ME].add("alias@acme.example")
    for tag in ("", "+1", "+2"):
        await deliver(at(gmail, sender=Address.parse(f"alias{tag}@acme.example")))
    assert len(gmail.sent) == 3
    assert sum("sendAs" in asked for asked in gmail.requests) == 1


@each_row(
    ("mood", "meaning", "phase"),
    [
        ("401 authError", Meaning.LOGIN_REFUSED, Phase.LOGIN),
        ("403 domainPolicy", Meaning.LOGIN_REFUSED, Phase.LOGIN),
        ("403 dailyLimitExceeded", Meaning.QUOTA, Phase.MAIL),
        ("403 userRateLimitExceeded", Meaning.THROTTLE, Phase.MAIL),
        ("429 rateLimitExceeded", Meaning.THROTTLE, Phase.MAIL),
        ("413 uploadTooLarge", Meaning.REFUSED, Phase.CONTENT),
        ("400 invalidArgument", Meaning.REFUSED, Phase.CONTENT),
        ("500 backendError", Meaning.UNKNOWN, Phase.FINAL),
        ("503 backendError", Meaning.TEMPORARY, Phase.MAIL),
    ],
)
async def test_what_an_error_means(gmail: GmailServer, mood: str, meaning: Meaning, phase: Phase) -> None:
    gmail.moods = [mood]
    failure = (await deliver(at(gmail))).failure
    assert failure is not None
    assert (failure.meaning, failure.phase) == (meaning, phase)
    assert mood.split()[1] in failure.reply.text


@pytest.mark.parametrize("mood", ["lost after", "504 after"])
async def test_a_lost_answer_is_asked_for_at_once(gmail: GmailServer, mood: str) -> None:
    gmail.moods = [mood]
    outcome = await deliver(at(gmail, "jo@customer.example", "hidden@customer.example"))
    assert outcome.accepted is not None
    assert len(gmail.sent) == 1


async def test_before_a_retry_gmail_is_asked(gmail: GmailServer) -> None:
    await deliver(at(gmail))
    await deliver(at(gmail, since=datetime.now(UTC)))
    assert len(gmail.sent) == 1
    await deliver(at(gmail, since=datetime.now(UTC) + timedelta(minutes=2)))  # another one that bears its Message-ID
    await deliver(at(gmail, "jo@customer.example", "two@customer.example", since=datetime.now(UTC)))
    assert len(gmail.sent) == 3
