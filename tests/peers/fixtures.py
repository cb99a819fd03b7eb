"""Fixtures: one Dovecot, Postfix, sink and certificate authority for the whole run, and a relay for each use."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import trustme

from tests.peers.dovecot import Dovecot, dovecot_server
from tests.peers.mailboxes import MailboxServer, mailbox_server
from tests.peers.postfix import Postfix, postfix_server
from tests.peers.postgres import Postgres, postgres_server
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, relay_process
from tests.peers.sink import Sink, sink_server
from tests.peers.system import private_folder

# Which of Dovecot's users may send as an address through Postfix.
OWNERS: Mapping[str, str] = {
    "mailer@owners.example": "mailer@owners.example",
    "support@owners.example": "support@owners.example",
    "stranger@owners.example": "stranger@owners.example",
}


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate authority of our own and one certificate of it, for loopback and for upstream.test."""

    ca_file: Path
    server: bytes


# What the receiver writes about a round trip, above all that was sent; and a provider that replaces a sender.
_WRITES = """\
/^X-Relay-Test:/ PREPEND Authentication-Results: receiver.test; spf=pass smtp.mailfrom=acmejets.example;
  dkim=pass header.d=acmejets.example; dmarc=pass header.from=acmejets.example
/^From: rewritten@acmejets.example/ REPLACE From: mailer@acmejets.example
"""


class StartRelay(Protocol):
    """Starts a relay that ends with the test."""

    def __call__(
        self, directory: Mapping[str, Any], settings: Mapping[str, Any] | None = None, *, starts: bool = True
    ) -> Relay: ...


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    """The certificates of every server in this run."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "::1", "localhost", "upstream.test")
    with private_folder("certificates") as folder:
        ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        yield Certificates(ca_file, server.private_key_and_cert_chain_pem.bytes())


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    """Where Dovecot and Postfix relay to."""
    with sink_server() as server:
        yield server


@pytest.fixture(scope="session")
def dovecot(sink: Sink, certificates: Certificates) -> Iterator[Dovecot]:
    """An upstream with SASL and TLS. Ask for needs("dovecot", "submission")."""
    with dovecot_server(sink.port, certificates.server) as server:
        yield server


@pytest.fixture(scope="session")
def postfix(sink: Sink, dovecot: Dovecot) -> Iterator[Postfix]:
    """An upstream that refuses bare LF, and senders that an account does not own.

    Ask for needs("postfix", "dovecot", "submission", "root").
    """
    with postfix_server(sink.port, dovecot.auth_port, OWNERS) as server:
        yield server


@pytest.fixture(scope="session")
def mailbox_host(certificates: Certificates) -> Iterator[MailboxServer]:
    """Where mail arrives, to be read by IMAP and POP3. Ask for needs(*NEEDS) of tests.peers.mailboxes."""
    with mailbox_server(certificates.server) as server:
        yield server


@pytest.fixture(scope="session")
def receiver(mailbox_host: MailboxServer) -> Iterator[Postfix]:
    """An upstream that delivers into those mailboxes, and returns what it cannot deliver to its sender.

    Ask for needs("postfix", "root", *NEEDS).
    """
    with postfix_server(
        0, mailbox_host.auth_port, {}, lmtp_port=mailbox_host.lmtp_port, header_checks=_WRITES
    ) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for this process of the run. Ask for needs(*NEEDS) of tests.peers.postgres."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """An upstream that keeps every byte."""
    with recorder_server() as server:
        yield server


@pytest.fixture
def start_relay() -> Iterator[StartRelay]:
    """Start relays; they end with the test."""
    with ExitStack() as stack:

        def start(
            directory: Mapping[str, Any], settings: Mapping[str, Any] | None = None, *, starts: bool = True
        ) -> Relay:
            relay: AbstractContextManager[Relay] = relay_process(directory, settings, starts=starts)
            return stack.enter_context(relay)

        yield start
