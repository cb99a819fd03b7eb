"""The round trip where something is missing: a message that never comes, and a test that stops before it is sent."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.control.tests.results import StepRecord
from relay.control.tests.round_trip import RoundTrip
from relay.directory.tables import Incoming
from relay.incoming.mailbox import Mailbox
from relay.mail.address import Address
from relay.mail.content import Content
from relay.secrets.secret import SecretRef
from tests.peers.canaries import RIGHT
from tests.peers.fixtures import Certificates
from tests.peers.mailboxes import NEEDS, MailboxServer
from tests.unit.control.control_kit import parts_in

pytestmark = pytest.mark.needs(*NEEDS)

SENDER = Address.parse("support@acmejets.example")


async def trip(
    folder: Path,
    host: MailboxServer,
    certificates: Certificates,
    protocol: Any,
    send: Any,
    patience: float = 1.0,
) -> list[StepRecord]:
    user = "trip@acmejets.example"
    host.add_users({user: RIGHT})
    incoming = Incoming(
        host="localhost", protocol=protocol, port=host.port(protocol, "tls"), ca_file=str(certificates.ca_file)
    )
    mailbox = Mailbox(
        kind="channel",
        name="support",
        incoming=incoming,
        account=user,
        username=user,
        ref=SecretRef("incoming/support", ""),
    )
    async with parts_in(folder) as parts:
        await parts.vault.put("incoming/support", RIGHT)
        steps = RoundTrip(parts, mailbox, SENDER, SENDER, patience).steps(send)
        return [step async for step in steps]


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("imap", "it is not in INBOX or Unwanted after 1 seconds; it may still come"),
        ("pop3", "POP3 shows the inbox alone, so it may be in a junk folder; it may still come"),
    ],
)
async def test_a_message_that_does_not_come_is_said_after_a_while(
    protocol: str, words: str, tmp_path: Path, mailbox_host: MailboxServer, certificates: Certificates
) -> None:
    async def swallow(content: Content) -> AsyncIterator[StepRecord]:
        # A message with this text, and with another token: it is not ours, and is left alone.
        mailbox_host.deliver("trip@acmejets.example", content.header.replace(content.header[14:46], b"0" * 32))
        yield StepRecord("message", True, "sent")

    steps = await trip(tmp_path, mailbox_host, certificates, protocol, swallow)
    assert [step.step for step in steps] == ["mailbox", "message", "arrived"]
    assert not steps[-1].ok
    assert words in steps[-1].detail


async def test_nothing_is_looked_for_where_nothing_was_sent(
    tmp_path: Path, mailbox_host: MailboxServer, certificates: Certificates
) -> None:
    async def refuse(_: Content) -> AsyncIterator[StepRecord]:
        yield StepRecord("mail", False, "550")

    steps = await trip(tmp_path, mailbox_host, certificates, "imap", refuse, patience=3600)
    assert [step.step for step in steps] == ["mailbox", "mail"]
