"""Watching mailboxes: who may mark what, what is kept of it, and what a mailbox that fails looks like."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from relay.control.json_values import fields_of
from relay.directory.directory import Directory
from relay.directory.model import Channel, Server
from relay.directory.tables import Incoming
from relay.incoming.returned_mail import ReturnedMail
from relay.secrets.master_key import key_source
from relay.secrets.resolver import SecretResolver
from relay.secrets.vault import Vault
from relay.store.cluster.leases import Lead
from relay.store.db.database import open_database
from relay.store.people.secrets import SecretTable
from relay.store.queue.messages import StoredMessage
from relay.store.queue.queue import Queue
from tests.peers.canaries import RIGHT, WRONG
from tests.peers.fixtures import Certificates
from tests.peers.mailboxes import NEEDS, MailboxServer
from tests.peers.moments import a_while
from tests.peers.told import capture_logs
from tests.unit.mail.bounce_samples import ANN, EXCHANGE, EXIM, POSTFIX, QMAIL, SENT
from tests.unit.store.store_kit import history, new_message

pytestmark = pytest.mark.needs(*NEEDS)

_SECONDS = 20.0


@dataclass
class Switch:
    """A lead that a test gives and takes."""

    is_ours: bool = False
    lease: None = None


class Watched:
    """A store and a watch on the mailboxes of `directory`."""

    def __init__(self, queue: Queue, vault: Vault, mail: ReturnedMail) -> None:
        self.queue = queue
        self.vault = vault
        self.mail = mail
        self.directory = Directory()

    async def add(self, profile: str | None = "support", *to: str, **facts: Any) -> str:
        """Add a message that was delivered, and return its id."""
        message: StoredMessage = new_message(to=to or (ANN,), state="delivered", profile=profile, message_id=SENT)
        await self.queue.add(history(replace(message, **facts)))
        return message.id

    async def until(self, check: Callable[[], Any], what: str) -> None:
        """Wait until something is true."""
        async with asyncio.timeout(_SECONDS):
            while not check():  # noqa: ASYNC110 - what is waited for is another's
                await asyncio.sleep(0.02)
        assert check(), what

    async def returned(self, id_: str) -> str:
        """Wait until something has come back for a message, and return the status."""
        async with asyncio.timeout(_SECONDS):
            while not (rows := await self.queue.returns(id_)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return rows[0].status

    async def looked_twice(self) -> None:
        """Wait until every mailbox was looked into from now on."""
        for _ in range(2):
            before = self._looks()
            await self.until(lambda: not before & self._looks(), "another look")  # noqa: B023 - it ends in this turn

    def _looks(self) -> set[Any]:
        return {(owner, watched.checked) for owner, watched in self.mail._watched.items()}

    def state(self) -> dict[str, Any]:
        """The state of the only mailbox."""
        (state,) = self.mail.status()
        return fields_of(state)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    async with _watched(tmp_path) as found:
        yield found


@asynccontextmanager
async def _watched(folder: Path, every_seconds: float = 0.1, lead: Lead | None = None) -> AsyncIterator[Watched]:
    folder.chmod(0o700)
    database = await open_database(folder / "relay.db")
    vault = await Vault.open(SecretTable(database), key_source("file:master.key", folder, {}))
    queue = Queue(database, "test")
    holder: list[Watched] = []
    mail = ReturnedMail(
        queue, SecretResolver(vault, {}, folder), lambda: holder[0].directory, lead, every_seconds=every_seconds
    )
    holder.append(Watched(queue, vault, mail))
    try:
        yield holder[0]
    finally:
        await mail.aclose()
        await queue.aclose()
        await database.close()


@pytest.fixture
def incoming(mailbox_host: MailboxServer, certificates: Certificates) -> Callable[..., Incoming]:
    """Makes an emptied mailbox."""

    def make(user: str, protocol: Any = "imap", password: str = RIGHT) -> Incoming:
        mailbox_host.add_users({user: RIGHT})
        for path in mailbox_host.files(user):
            path.unlink()
        return Incoming(
            host="localhost",
            protocol=protocol,
            port=mailbox_host.port(protocol, "tls"),
            username=user,
            ca_file=str(certificates.ca_file),
            watch_bounces=True,
            password=password,
        )

    return make


def channel(name: str, incoming: Incoming) -> Channel:
    return Channel(name=name, address=f"{name}@acmejets.example", incoming=incoming)


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
async def test_reports_are_matched_to_the_message_and_its_recipient(
    protocol: str, watched: Watched, incoming: Callable[..., Incoming], mailbox_host: MailboxServer
) -> None:
    user = f"watch-{protocol}@acmejets.example"
    mailbox = incoming(user, protocol)
    mailbox_host.deliver(user, POSTFIX)  # from before we look
    watched.directory = Directory(channels={"support": channel("support", mailbox)})
    id_ = await watched.add("support", "bob@customer.example", ANN)
    watched.mail.refresh()
    await watched.until(lambda: watched.state()["state"] == "ok", "a first look")
    mailbox_host.deliver(user, b"Subject: a customer's question\r\n\r\nHello\r\n")
    mailbox_host.deliver(user, EXCHANGE)
    mailbox_host.deliver(user, QMAIL)
    with capture_logs() as lines:
        assert await watched.returned(id_) == "5.1.10"
        await watched.looked_twice()
    (row,) = await watched.queue.returns(id_)
    assert (row.number, row.status) == (1, "5.1.10"), "the first report counts, about the recipient it names"
    (line,) = [line for line in lines if line["event"] == "returned"]
    assert (line["recipient"], line["profile"], line["id"]) == (ANN, "support", id_)


async def test_a_report_in_anothers_mailbox_marks_nothing(
    watched: Watched, incoming: Callable[..., Incoming], mailbox_host: MailboxServer
) -> None:
    user = "watch-sales@acmejets.example"
    watched.directory = Directory(channels={"sales": channel("sales", incoming(user))})
    id_ = await watched.add("support")
    watched.mail.refresh()
    await watched.until(lambda: watched.state()["state"] == "ok", "a first look")
    mailbox_host.deliver(user, POSTFIX)
    await watched.looked_twice()
    assert await watched.queue.returns(id_) == ()


async def test_the_servers_mailbox_is_for_mail_of_the_servers_account(
    watched: Watched, incoming: Callable[..., Incoming], mailbox_host: MailboxServer
) -> None:
    user = "watch-server@acmejets.example"
    server = Server(name="acmejets", host="h", username="mailer@acmejets.example", incoming=incoming(user))
    watched.directory = Directory(servers={"acmejets": server}, default_server="acmejets")
    theirs = await watched.add("support", server="acmejets", username="mailer@acmejets.example")
    own = await watched.add("jane", server="acmejets", username="jane@acmejets.example")
    watched.mail.refresh()
    await watched.until(lambda: watched.state()["state"] == "ok", "a first look")
    mailbox_host.deliver(user, POSTFIX)
    assert await watched.returned(theirs) == "5.1.1"
    assert await watched.queue.returns(own) == ()


@pytest.mark.slow
async def test_a_report_that_is_faster_than_the_history_is_matched_at_the_next_look(
    tmp_path: Path, incoming: Callable[..., Incoming], mailbox_host: MailboxServer
) -> None:
    user = "watch-fast@acmejets.example"
    async with _watched(tmp_path, every_seconds=5) as watched:
        watched.directory = Directory(channels={"support": channel("support", incoming(user))})
        watched.mail.refresh()
        await watched.until(lambda: watched.state()["state"] == "ok", "a first look")
        mailbox_host.deliver(user, EXIM)
        (inside,) = watched.mail._watched.values()
        await watched.until(lambda: inside.unmatched, "a report about nothing that is known")
        id_ = await watched.add("support")
        assert await watched.returned(id_) == "5.0.0"
        assert not inside.unmatched


async def test_a_refused_login_is_said_once_and_not_tried_again_before_a_new_password(
    watched: Watched, incoming: Callable[..., Incoming], mailbox_host: MailboxServer
) -> None:
    user = "watch-wrong@acmejets.example"
    watched.directory = Directory(channels={"support": channel("support", incoming(user, password=""))})
    await watched.vault.put("incoming/support", WRONG, bound_to="localhost")
    with capture_logs() as lines:
        watched.mail.refresh()
        await watched.until(lambda: watched.state()["state"] == "failing", "a failure")
        await a_while(0.5)  # five more looks, if it looked
        assert mailbox_host.log.read_text().count(f"({user},127.0.0.1") <= 2, "one login, which Dovecot tells twice"
        assert "was refused" in watched.state()["reason"]
        await watched.vault.put("incoming/support", RIGHT, bound_to="localhost")
        await watched.until(lambda: watched.state()["state"] == "ok", "a look with the new password")
    assert [line["event"] for line in lines] == ["warned", "changed"]


async def test_a_password_that_comes_later_is_used_at_once(
    tmp_path: Path, incoming: Callable[..., Incoming], mailbox_host: MailboxServer
) -> None:
    """What comes back between the password and the first look would be taken for old."""
    async with _watched(tmp_path, every_seconds=60) as watched:
        mailbox = incoming("watch-later@acmejets.example", password="")
        watched.directory = Directory(channels={"support": channel("support", mailbox)})
        watched.mail.refresh()
        await watched.until(lambda: watched.state()["state"] == "failing", "a failure")
        assert "has no password" in watched.state()["reason"]
        await watched.vault.put("incoming/support", WRONG, bound_to="localhost")
        await watched.until(lambda: "was refused" in watched.state()["reason"], "a login")
        await watched.vault.put("incoming/support", RIGHT, bound_to="localhost")
        await watched.until(lambda: watched.state()["state"] == "ok", "a look with the new password")


async def test_a_mailbox_that_is_no_longer_watched_is_left_alone(
    watched: Watched, incoming: Callable[..., Incoming]
) -> None:
    mailbox = incoming("watch-left@acmejets.example")
    watched.directory = Directory(channels={"support": channel("support", mailbox)})
    watched.mail.refresh()
    await watched.until(lambda: watched.state()["state"] == "ok", "a look")
    before = dict(watched.mail._watched)
    watched.mail.refresh()
    assert watched.mail._watched == before, "what did not change goes on"
    watched.directory = Directory(channels={"support": channel("support", replace(mailbox, watch_bounces=False))})
    watched.mail.refresh()
    assert watched.mail.status() == []


async def test_mailboxes_are_read_by_who_leads(tmp_path: Path) -> None:
    """What is looked at is how often their server is called, which says nothing."""
    calls: list[object] = []

    async def called(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(writer)
        writer.close()

    lead = Switch()
    tmp_path.chmod(0o700)
    server = await asyncio.start_server(called, "127.0.0.1", 0)
    place = Incoming(
        host="127.0.0.1", port=server.sockets[0].getsockname()[1], security="none", username="a", watch_bounces=True
    )
    async with server, _watched(tmp_path, 0.01, lead) as watched:
        watched.directory = Directory(channels={"support": channel("support", replace(place, password=RIGHT))})
        watched.mail.refresh()
        await a_while(0.1)
        assert calls == []
        lead.is_ours = True
        await watched.until(lambda: bool(calls), "a call")
        await watched.mail.rest()
        assert watched.mail.status() == []
        # Who called before is told before: this is told when it ends.
        reader, writer = await asyncio.open_connection(place.host, place.port)
        assert await reader.read() == b""
        writer.close()
        before = len(calls)
        await a_while(0.1)
        assert len(calls) == before
        await watched.mail.follow()
        await watched.until(lambda: len(calls) > before, "another call")
