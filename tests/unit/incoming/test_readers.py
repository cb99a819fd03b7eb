"""Both readers against a real Dovecot: what arrives is seen, nothing is marked as read, and only the own is deleted."""

import asyncio
import socket
from email.message import EmailMessage
from itertools import count
from typing import Any

import pytest

from relay.directory.tables import Incoming, OAuthClient
from relay.incoming import token_login
from relay.incoming.mailbox import Mailbox
from relay.incoming.open_mailbox import Mailboxes
from relay.incoming.reader import INBOX, Folder, MailboxFailed, MailboxRefused, Reader
from relay.secrets.secret import Secret, SecretRef, TokenRef
from tests.peers.access_tokens import access_token
from tests.peers.canaries import RIGHT, WRONG, leaks_in, plain_canary
from tests.peers.fixtures import Certificates
from tests.peers.mailboxes import JUNK, NEEDS, MailboxServer
from tests.peers.system import free_port

pytestmark = pytest.mark.needs(*NEEDS)

_numbers = count()
WAYS = [(protocol, security) for protocol in ("imap", "pop3") for security in ("none", "starttls", "tls")]


def message(subject: str, text: str = "Hello\n") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "ann@customer.example", "support@acmejets.example", subject
    made.set_content(text)
    return made


def mailbox_at(
    mailbox_host: MailboxServer, certificates: Certificates, protocol: Any = "imap", security: Any = "tls", **keys: Any
) -> Mailbox:
    """A mailbox of a user of its own."""
    user = f"reader{next(_numbers)}@acmejets.example"
    token = TokenRef("acmejets", user, OAuthClient(provider="custom")) if keys.pop("auth", "") == "oauth2" else None
    mailbox_host.add_users({user: RIGHT})
    incoming = Incoming(
        host="localhost",
        protocol=protocol,
        security=security,
        port=keys.pop("port", mailbox_host.port(protocol, security)),
        ca_file=keys.pop("ca_file", str(certificates.ca_file)),
    )
    return Mailbox(
        kind="channel",
        name="support",
        incoming=incoming,
        account=user,
        username=user,
        ref=SecretRef("incoming/support", "", token=token),
    )


GOOD = Secret(RIGHT, "1")


def subjects(reader: Reader, folder: Folder, position: str) -> list[str]:
    heads = reader.arrivals(folder, position).heads
    lines = [line for head in heads for line in head.header.decode().splitlines()]
    return [line.removeprefix("Subject: ") for line in lines if line.startswith("Subject: ")]


@pytest.mark.parametrize(("protocol", "security"), WAYS)
async def test_what_arrives_behind_a_position_is_seen_once(
    protocol: str, security: str, mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    mailbox = mailbox_at(mailbox_host, certificates, protocol, security)
    mailbox_host.deliver(mailbox.username, message("old"))
    async with mailboxes.open(mailbox, GOOD) as opened:
        before = await opened.run(lambda reader: reader.position(INBOX))
    async with mailboxes.open(mailbox, GOOD) as opened:
        assert await opened.run(lambda reader: subjects(reader, INBOX, before)) == []
    mailbox_host.deliver(mailbox.username, message("first"))
    mailbox_host.deliver(mailbox.username, message("second"))
    async with mailboxes.open(mailbox, GOOD) as opened:
        assert await opened.run(lambda reader: subjects(reader, INBOX, before)) == ["first", "second"]
        after = (await opened.run(lambda reader: reader.arrivals(INBOX, before))).position
        assert await opened.run(lambda reader: subjects(reader, INBOX, after)) == []


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
async def test_nothing_is_marked_as_read_and_one_mail_alone_is_deleted(
    protocol: str, mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    mailbox = mailbox_at(mailbox_host, certificates, protocol)
    async with mailboxes.open(mailbox, GOOD) as opened:
        before = await opened.run(lambda reader: reader.position(INBOX))
    for subject in ("stays", "goes"):
        mailbox_host.deliver(mailbox.username, message(subject))
    async with mailboxes.open(mailbox, GOOD) as opened:
        heads = (await opened.run(lambda reader: reader.arrivals(INBOX, before))).heads
        content = await opened.run(lambda reader: reader.content(INBOX, heads[0].uid, 100_000))
        assert b"\r\n\r\nHello\r\n" in content
    assert [path.name.partition(":2,")[2] for path in mailbox_host.files(mailbox.username)] == ["", ""]
    async with mailboxes.open(mailbox, GOOD) as opened:
        assert await opened.run(lambda reader: reader.remove(INBOX, heads[1].uid)) is True
    (left,) = mailbox_host.files(mailbox.username)
    assert "Subject: stays" in left.read_text()


async def test_imap_leaves_what_others_marked_as_deleted(
    mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    mailbox = mailbox_at(mailbox_host, certificates)
    for subject in ("theirs", "ours"):
        mailbox_host.deliver(mailbox.username, message(subject))
    async with mailboxes.open(mailbox, GOOD) as opened:
        position = await opened.run(lambda reader: reader.position(INBOX))
        validity = position.split()[0]
        heads = (await opened.run(lambda reader: reader.arrivals(INBOX, f"{validity} 1"))).heads

        def mark_and_remove(reader: Any) -> None:
            reader._client.select("INBOX")
            reader._client.uid("STORE", heads[0].uid, "+FLAGS", "(\\Deleted)")
            reader.remove(INBOX, heads[1].uid)

        await opened.run(mark_and_remove)
    (left,) = mailbox_host.files(mailbox.username)
    assert "Subject: theirs" in left.read_text()


async def test_the_junk_folder_is_known_by_its_use(
    mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    mailbox = mailbox_at(mailbox_host, certificates)
    async with mailboxes.open(mailbox, GOOD) as opened:
        assert await opened.run(lambda reader: reader.folders()) == (INBOX, Folder(JUNK, is_junk=True))


async def test_pop3_sees_long_lines_and_what_follows_after_others_deleted(
    mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    mailbox = mailbox_at(mailbox_host, certificates, "pop3")
    mailbox_host.deliver(mailbox.username, message("one"))
    mailbox_host.deliver(mailbox.username, message("two"))
    async with mailboxes.open(mailbox, GOOD) as opened:
        before = await opened.run(lambda reader: reader.position(INBOX))
    newest = max(mailbox_host.files(mailbox.username), key=lambda path: path.name)
    newest.unlink()
    mailbox_host.deliver(
        mailbox.username, b"Subject: three\r\nX-Long: " + b"x" * 5000 + b"\r\n\r\n" + b"y" * 20_000 + b"\r\n"
    )
    async with mailboxes.open(mailbox, GOOD) as opened:
        assert await opened.run(lambda reader: subjects(reader, INBOX, before)) == ["three"]


async def test_a_mailbox_that_was_made_anew_is_read_from_now_on(
    mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    mailbox = mailbox_at(mailbox_host, certificates)
    mailbox_host.deliver(mailbox.username, message("old"))
    async with mailboxes.open(mailbox, GOOD) as opened:
        arrivals = await opened.run(lambda reader: reader.arrivals(INBOX, "1 1"))
        assert arrivals.heads == ()
        assert arrivals.position == await opened.run(lambda reader: reader.position(INBOX))


@pytest.mark.parametrize(("protocol", "security"), WAYS)
async def test_a_wrong_password_is_refused_in_the_servers_words_and_not_told(
    protocol: str, security: str, mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    mailbox = mailbox_at(mailbox_host, certificates, protocol, security)
    with pytest.raises(MailboxRefused, match=r"uthentication failed") as caught:
        async with mailboxes.open(mailbox, Secret(WRONG, "2")):
            pass
    assert "the mailbox of channel 'support' (localhost:" in str(caught.value)
    assert str(caught.value).endswith("set its password with: relay channel password support --incoming")
    assert not leaks_in(repr(caught.value).encode())


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
async def test_a_certificate_of_nobody_we_know_ends_before_the_password(
    protocol: str, mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    for security in ("tls", "starttls"):
        mailbox = mailbox_at(mailbox_host, certificates, protocol, security, ca_file="")
        with pytest.raises(MailboxFailed, match="its certificate is not accepted: unable to get local issuer"):
            async with mailboxes.open(mailbox, GOOD):
                pass
        assert f"user=<{mailbox.username}>" not in mailbox_host.log.read_text()


@pytest.mark.parametrize(("protocol", "security"), WAYS)
async def test_a_token_opens_a_mailbox_and_one_that_ended_is_renewed_once(
    protocol: str, security: str, mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    mailbox = mailbox_at(mailbox_host, certificates, protocol, security, auth="oauth2")
    good, ended = Secret(access_token(mailbox.username), "1"), Secret(access_token(mailbox.username, seconds=-30), "1")
    renewed: list[Secret] = []

    async def renew(refused: Secret) -> Secret | None:
        renewed.append(refused)
        return good

    async with mailboxes.open(mailbox, good, renew) as opened:
        before = await opened.run(lambda reader: reader.position(INBOX))
    mailbox_host.deliver(mailbox.username, message("first"))
    async with mailboxes.open(mailbox, ended, renew) as opened:
        assert await opened.run(lambda reader: subjects(reader, INBOX, before)) == ["first"]
    assert renewed == [ended]


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
async def test_a_refused_token_is_told_in_the_servers_words_and_not_shown(
    protocol: str,
    mechanism: str,
    mailbox_host: MailboxServer,
    certificates: Certificates,
    mailboxes: Mailboxes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(token_login, "_MECHANISMS", [one for one in token_login._MECHANISMS if one[0] == mechanism])
    mailbox = mailbox_at(mailbox_host, certificates, protocol, auth="oauth2")
    async with mailboxes.open(mailbox, Secret(access_token(mailbox.username), "1")):
        pass
    forged = access_token(mailbox.username, key=b"another key of thirty-two octets", jti=plain_canary("mailbox"))
    with pytest.raises(MailboxRefused, match=r"by OAuth was refused: .*status (?:401|invalid_token)") as caught:
        async with mailboxes.open(mailbox, Secret(forged, "1")):
            pass
    assert str(caught.value).endswith("; authorize it with: relay channel authorize support")
    assert forged not in str(caught.value)
    assert not leaks_in(repr(caught.value).encode())
    with pytest.raises(MailboxRefused, match="has no authorization; authorize it with: relay channel authorize"):
        async with mailboxes.open(mailbox, None):
            pass


async def test_a_server_without_oauth_is_told_no_token(
    mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_login, "_MECHANISMS", [("XOTHER", *token_login._MECHANISMS[0][1:])])
    for protocol in ("imap", "pop3"):
        mailbox = mailbox_at(mailbox_host, certificates, protocol, auth="oauth2")
        with pytest.raises(MailboxRefused, match="the server offers no login by OAuth that we know"):
            async with mailboxes.open(mailbox, Secret(access_token(mailbox.username), "1")):
                pass


async def test_a_server_that_is_not_there_is_one_sentence(
    mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    mailbox = mailbox_at(mailbox_host, certificates, port=free_port())
    with pytest.raises(MailboxFailed, match=r"the mailbox of channel 'support' \(localhost:\d+\): .*refused"):
        async with mailboxes.open(mailbox, GOOD):
            pass


async def test_no_password_is_a_sentence_with_the_command(
    mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    with pytest.raises(MailboxRefused, match="has no password; set its password with: relay channel password"):
        async with mailboxes.open(mailbox_at(mailbox_host, certificates), None):
            pass


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
async def test_a_server_that_says_nothing_is_left_at_once_when_nobody_waits_any_more(
    protocol: Any, certificates: Certificates, mailboxes: Mailboxes, mailbox_host: MailboxServer
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mailbox = mailbox_at(mailbox_host, certificates, protocol, "none", port=silent.getsockname()[1])

        async def wait() -> None:
            async with mailboxes.open(mailbox, GOOD):
                raise AssertionError("nobody answered")

        task = asyncio.create_task(wait())
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:
            task.cancel()
            async with asyncio.timeout(10):  # far below the time for an answer
                with pytest.raises(asyncio.CancelledError):
                    await task


async def test_an_answer_that_never_ends_is_refused(
    certificates: Certificates, mailboxes: Mailboxes, mailbox_host: MailboxServer
) -> None:
    """A server that announces a literal of 4 GiB does not get the memory for it."""
    said = [b"* OK [CAPABILITY IMAP4rev1] hello\r\n"]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said[0])
        while line := await reader.readline():
            tag, verb = line.split()[:2]
            if verb == b"STATUS":
                writer.write(b"* STATUS INBOX {4294967295}\r\n")
            elif verb == b"CAPABILITY":
                writer.write(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK done\r\n")
            else:
                writer.write(tag + b" OK done\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as hostile:
        port = hostile.sockets[0].getsockname()[1]
        mailbox = mailbox_at(mailbox_host, certificates, "imap", "none", port=port)
        with pytest.raises(MailboxFailed, match="an answer of 4294967295 octets is too long"):
            async with mailboxes.open(mailbox, GOOD) as opened:
                await opened.run(lambda reader: reader.position(INBOX))


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
async def test_many_arrivals_are_read_in_turns_and_none_is_left_out(
    protocol: str,
    mailbox_host: MailboxServer,
    certificates: Certificates,
    mailboxes: Mailboxes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"relay.incoming.{protocol}.MOST_NEW", 2)
    mailbox = mailbox_at(mailbox_host, certificates, protocol)
    async with mailboxes.open(mailbox, GOOD) as opened:
        position = await opened.run(lambda reader: reader.position(INBOX))
    for number in range(5):
        mailbox_host.deliver(mailbox.username, message(f"number {number}"))
    seen: list[list[str]] = []
    async with mailboxes.open(mailbox, GOOD) as opened:
        for _ in range(4):
            now = position
            seen.append(await opened.run(lambda reader, now=now: subjects(reader, INBOX, now)))  # type: ignore[misc]
            arrivals = await opened.run(lambda reader, now=now: reader.arrivals(INBOX, now))  # type: ignore[misc]
            position = arrivals.position
    assert seen == [["number 0", "number 1"], ["number 2", "number 3"], ["number 4"], []]


async def test_where_one_mail_cannot_be_expunged_alone_it_is_marked(
    mailbox_host: MailboxServer, certificates: Certificates, mailboxes: Mailboxes
) -> None:
    """A server without UIDPLUS would take along what others have marked."""
    mailbox = mailbox_at(mailbox_host, certificates)
    mailbox_host.deliver(mailbox.username, message("ours"))

    def remove(reader: Any) -> bool:
        reader._can_expunge_one = False
        validity = reader.position(INBOX).split()[0]
        (head,) = reader.arrivals(INBOX, f"{validity} 1").heads
        return bool(reader.remove(INBOX, head.uid))

    async with mailboxes.open(mailbox, GOOD) as opened:
        assert await opened.run(remove) is False
    (left,) = mailbox_host.files(mailbox.username)
    assert "T" in left.name.partition(":2,")[2]
