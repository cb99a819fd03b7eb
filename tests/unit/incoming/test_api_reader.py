"""Mailboxes that are read by Microsoft Graph and the Gmail API, at local ones."""

import asyncio
from collections.abc import Iterator

import pytest

from relay.directory.model import Auth, Kind, Server
from relay.directory.tables import Incoming, OAuthClient
from relay.incoming.mailbox import Mailbox
from relay.incoming.open_mailbox import Mailboxes
from relay.incoming.reader import INBOX, MailboxFailed, MailboxRefused, Reader
from relay.secrets.secret import Secret, SecretRef, TokenRef
from tests.peers.gmail import GmailServer, gmail_server
from tests.peers.graph import GraphServer, graph_server
from tests.peers.system import wait_until

ME = "support@acme.example"
GOOD = Secret("good-token", "1")
FOLDERS = {Kind.MSGRAPH: ("inbox", "junkemail"), Kind.GMAIL: ("INBOX", "SPAM")}


@pytest.fixture(params=[Kind.MSGRAPH, Kind.GMAIL])
def provider(request: pytest.FixtureRequest) -> Iterator[GraphServer | GmailServer]:
    with graph_server() if request.param is Kind.MSGRAPH else gmail_server() as server:
        yield server


def kind_of(provider: GraphServer | GmailServer) -> Kind:
    return Kind.MSGRAPH if isinstance(provider, GraphServer) else Kind.GMAIL


def mailbox_at(provider: GraphServer | GmailServer) -> Mailbox:
    client = OAuthClient(provider="custom", client_id="app")
    server = Server(name="api", kind=kind_of(provider), api_url=provider.url, auth=Auth.OAUTH2, oauth=client)
    return Mailbox(
        kind="channel",
        name="support",
        incoming=Incoming(host="127.0.0.1", protocol="api", auth="oauth2"),
        account=ME,
        username=ME,
        ref=SecretRef("oauth/profile/support", "", token=TokenRef("api", ME, client)),
        api=server,
    )


def deliver(provider: GraphServer | GmailServer, subject: str, *, junk: bool = False, received: str = "") -> str:
    folder = FOLDERS[kind_of(provider)][junk]
    octets = f"Subject: {subject}\r\n\r\n".encode() + b"x" * 100_000
    return provider.inbox.deliver(ME, octets, folder, received)


async def subjects(
    mailboxes: Mailboxes, mailbox: Mailbox, position: str, *, junk: bool = False
) -> tuple[list[str], str]:
    def look(reader: Reader) -> tuple[list[str], str]:
        arrivals = reader.arrivals(reader.folders()[junk], position)
        return [head.header.decode().split("\r\n")[0] for head in arrivals.heads], arrivals.position

    async with mailboxes.open(mailbox, GOOD) as opened:
        return await opened.run(look)


async def test_what_arrives_is_seen_once_and_in_its_order(
    provider: GraphServer | GmailServer, mailboxes: Mailboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.incoming.api.MOST_NEW", 2)
    mailbox = mailbox_at(provider)
    async with mailboxes.open(mailbox, GOOD) as opened:
        empty = await opened.run(lambda reader: reader.position(INBOX))
    moment = "2026-12-03T09:00:00Z"
    deliver(provider, "old", received=moment)
    deliver(provider, "spam", junk=True, received=moment)
    async with mailboxes.open(mailbox, GOOD) as opened:
        before = await opened.run(lambda reader: reader.position(INBOX))
    assert await subjects(mailboxes, mailbox, before) == ([], before)
    for subject in ("one", "two", "three"):  # all in one second
        deliver(provider, subject, received=moment)
    deliver(provider, "four", received="2026-12-03T09:00:01Z")
    found, after = await subjects(mailboxes, mailbox, before)
    assert found == ["Subject: one", "Subject: two"]
    more, last = await subjects(mailboxes, mailbox, after)
    assert more == ["Subject: three", "Subject: four"]
    assert (await subjects(mailboxes, mailbox, last))[0] == []
    assert (await subjects(mailboxes, mailbox, empty))[0] == ["Subject: old", "Subject: one"]
    assert (await subjects(mailboxes, mailbox, empty, junk=True))[0] == ["Subject: spam"]


async def test_the_beginning_of_a_mail_is_read_and_one_mail_alone_is_deleted(
    provider: GraphServer | GmailServer, mailboxes: Mailboxes
) -> None:
    stays, goes = deliver(provider, "stays"), deliver(provider, "goes")
    async with mailboxes.open(mailbox_at(provider), GOOD) as opened:
        content = await opened.run(lambda reader: reader.content(INBOX, stays, 1001))
        whole = await opened.run(lambda reader: reader.content(INBOX, stays, 1_000_000))
        assert await opened.run(lambda reader: reader.remove(INBOX, goes)) is True
        assert await opened.run(lambda reader: reader.remove(INBOX, goes)) is True  # gone already
        assert await opened.run(lambda reader: reader.content(INBOX, goes, 1000)) == b""
    assert content.startswith(b"Subject: stays\r\n\r\nxxx")
    assert 1000 <= len(content) < 1100
    assert len(whole) == 100_000 + len("Subject: stays\r\n\r\n")
    assert [mail.id for mail in provider.inbox.mails] == [stays]


async def test_a_token_that_is_not_taken_is_renewed_once_and_then_told(
    provider: GraphServer | GmailServer, mailboxes: Mailboxes
) -> None:
    mailbox, given = mailbox_at(provider), [GOOD, Secret("another-bad", "1")]

    async def renew(_: Secret) -> Secret | None:
        return given.pop(0)

    async with mailboxes.open(mailbox, Secret("bad-token", "1"), renew) as opened:
        assert opened.sees_arrivals
    with pytest.raises(
        MailboxRefused, match=r"HTTP status 401\).*; authorize it with: relay channel authorize"
    ) as caught:
        async with mailboxes.open(mailbox, Secret("bad-token", "1"), renew):
            pass
    assert "bad-token" not in str(caught.value)


async def test_an_app_that_may_not_read_is_told_so(mailboxes: Mailboxes) -> None:
    with graph_server(may_read=False) as graph, pytest.raises(MailboxRefused, match="ErrorAccessDenied"):
        async with mailboxes.open(mailbox_at(graph), GOOD):
            pass


async def test_a_history_that_gmail_forgot_is_read_from_now_on(mailboxes: Mailboxes) -> None:
    with gmail_server() as gmail:
        deliver(gmail, "old")
        gmail.inbox.oldest_history = 5
        assert await subjects(mailboxes, mailbox_at(gmail), "1") == ([], gmail.inbox.history_id)


async def test_a_provider_that_says_nothing_is_left_at_once_when_nobody_waits_any_more(mailboxes: Mailboxes) -> None:
    with graph_server(moods=["silent"]) as graph:
        mailbox = mailbox_at(graph)

        async def wait() -> None:
            async with mailboxes.open(mailbox, GOOD):
                raise AssertionError("nobody answered")

        task = asyncio.create_task(wait())
        await asyncio.to_thread(wait_until, lambda: graph.requests, "a request")
        task.cancel()
        async with asyncio.timeout(10):  # far below the time for an answer
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_a_provider_that_is_not_there_is_one_sentence(mailboxes: Mailboxes) -> None:
    with graph_server() as graph:
        mailbox = mailbox_at(graph)
    with pytest.raises(MailboxFailed, match=r"the mailbox of channel 'support' \(127.0.0.1:443\): .*refused"):
        async with mailboxes.open(mailbox, GOOD):
            pass
