"""Mailboxes that are read by an API: the round trip by Gmail, and returned mail by Graph and Gmail."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import gmail_kit, graph_kit
from tests.e2e.graph_kit import QUICK, message, submit
from tests.peers.canaries import RIGHT
from tests.peers.fixtures import StartRelay
from tests.peers.gmail import GmailServer, gmail_server
from tests.peers.graph import GraphServer, graph_server
from tests.peers.oidc import Client, identity_server
from tests.peers.relay import Relay
from tests.peers.system import wait_until
from tests.unit.mail.bounce_samples import ANN, EXCHANGE, EXIM, GMAIL, SENT

pytestmark = pytest.mark.slow

ME = "support@acme.example"
MAILBOX: dict[str, Any] = {"host": "127.0.0.1", "protocol": "api", "auth": "oauth2", "watch_bounces": True}


@pytest.fixture
def by_gmail(start_relay: StartRelay, tmp_path: Path) -> Iterator[tuple[Relay, GmailServer]]:
    with gmail_server() as gmail:
        found: dict[str, Any] = gmail_kit.directory(gmail, tmp_path / "account.json")
        found["channels"]["support"]["incoming"] = MAILBOX
        yield start_relay(found, QUICK), gmail


@pytest.fixture
def by_graph(start_relay: StartRelay) -> Iterator[tuple[Relay, GraphServer]]:
    with graph_server() as graph, identity_server(graph.sign) as identity:
        identity.clients["app"] = Client("app", RIGHT, "app")
        found: dict[str, Any] = graph_kit.directory(graph, identity)
        found["channels"]["support"]["incoming"] = MAILBOX
        relay = start_relay(found, QUICK, starts=False)
        graph_kit.set_client_secrets(relay)
        relay.start()
        yield relay, graph


def wait_for_look(relay: Relay) -> None:
    wait_until(lambda: relay.ask("status")["mailboxes"][0]["state"] == "ok", "a look into the mailbox", 60)


def returned_by(relay: Relay, provider: GraphServer | GmailServer, folder: str, report: bytes) -> dict[str, Any]:
    """Send a message, let the report about it arrive, and return what is shown with its recipient."""
    provider.inbox.deliver(ME, EXIM, folder)  # an old one, from before we look
    wait_for_look(relay)
    content = message(ME, ANN).replace(b"<hi@acme.example>", SENT.encode())
    assert submit(relay, "support", ANN, content=content).startswith("250 2.0.0 Ok: delivered"), relay.last_words
    wait_until(lambda: relay.ask("messages", "list", "--message-id", SENT), "the message in the history")
    provider.inbox.deliver(ME, report, folder)
    relay.stop()
    relay.start()  # which looks at once, from where it was before
    wait_for_look(relay)
    (sent,) = relay.ask("messages", "list", "--message-id", SENT)
    (recipient,) = relay.ask("messages", "show", sent["id"])["recipients"]
    assert recipient["state"] == "delivered"
    assert len(provider.inbox.of(ME, folder)) == 2, "the reports stay"
    shown: dict[str, Any] = recipient["returned"]
    return shown


def test_returned_mail_is_found_by_graph(by_graph: tuple[Relay, GraphServer]) -> None:
    assert returned_by(*by_graph, "inbox", EXCHANGE)["status"] == "5.1.10"


def test_returned_mail_is_found_by_the_gmail_api(by_gmail: tuple[Relay, GmailServer]) -> None:
    assert returned_by(*by_gmail, "INBOX", GMAIL)["status"] == "5.1.1"


def test_the_round_trip_goes_by_the_gmail_api(by_gmail: tuple[Relay, GmailServer]) -> None:
    relay, gmail = by_gmail
    done = relay.command("channel", "test", "support", "--round-trip", "--json")
    result = json.loads(done.out)
    assert result["ok"], result
    steps = {step["step"]: step["detail"] for step in result["steps"]}
    assert steps["mailbox"] == f"logged in at 127.0.0.1:443 as {ME}; looks into INBOX and SPAM"
    assert steps["from"] == f"{ME}, as it was sent"
    assert gmail.inbox.of(ME, "INBOX") == []
