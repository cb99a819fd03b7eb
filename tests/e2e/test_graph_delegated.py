"""Microsoft Graph as a person: from the first authorization to one that was taken back and given again."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.graph_kit import QUICK, directory, held, message, submit
from tests.e2e.oauth_kit import authorize, token_of
from tests.peers.fixtures import StartRelay
from tests.peers.graph import GraphServer, graph_server
from tests.peers.oidc import Client, IdentityServer, identity_server
from tests.peers.relay import Relay
from tests.peers.system import wait_until

pytestmark = pytest.mark.slow

ME = "support@acme.example"
ACCOUNT = f"graph/{ME}"


@pytest.fixture
def graph() -> Iterator[GraphServer]:
    with graph_server(tokens={}) as server:
        yield server


@pytest.fixture
def identity(graph: GraphServer) -> Iterator[IdentityServer]:
    with identity_server(graph.sign) as server:
        server.clients["public"] = Client("public", "", "")
        yield server


def started(start_relay: StartRelay, graph: GraphServer, identity: IdentityServer, flow: str) -> Relay:
    oauth = {**identity.table, "client_id": "public", "flow": flow}
    found: dict[str, Any] = directory(graph, identity, oauth=oauth)
    incoming = {"host": "127.0.0.1", "protocol": "api", "auth": "oauth2", "watch_bounces": True}
    found["channels"]["support"]["incoming"] = incoming
    return start_relay(found, QUICK)


def allow(relay: Relay, identity: IdentityServer, flow: str) -> None:
    def by_person(lines: list[str]) -> str | None:
        if flow == "code":
            return identity.allow_in_browser(lines[0], ME)
        identity.allow_device(lines[1], ME)
        return None

    options = ("--redirect-stdin",) if flow == "code" else ()
    done = authorize(relay, "channel", "support", by_person, *options)
    assert done.status == 0, done.text


def send(relay: Relay, subject: str) -> str:
    """Each with a Message-ID of its own: one that has just been sent is not sent again."""
    return submit(relay, "support", content=message(ME, "jo@customer.example", subject=subject))


@pytest.mark.parametrize("flow", ["code", "device"])
def test_a_person_lets_it_send_until_that_is_taken_back_and_given_again(
    flow: str, start_relay: StartRelay, graph: GraphServer, identity: IdentityServer
) -> None:
    relay = started(start_relay, graph, identity, flow)
    allow(relay, identity, flow)
    assert send(relay, "one").startswith("250 2.0.0 Ok: delivered via graph"), relay.last_words
    (first,) = graph.sent
    assert (first.mailbox, first.recipients) == (ME, ["jo@customer.example"])
    assert send(relay, "two").startswith("250 2.0.0 Ok: delivered via graph"), relay.last_words

    graph.tokens.clear()  # it has ended, before its time
    assert send(relay, "three").startswith("250 2.0.0 Ok: delivered via graph"), relay.last_words
    assert identity.asked[-1] == "refresh_token"

    identity.revoke(ME)
    graph.tokens.clear()
    assert send(relay, "four").startswith("250 2.0.0 Ok: queued"), relay.last_words
    wait_until(lambda: held(relay).get(ACCOUNT), "a hold")
    assert token_of(relay, ACCOUNT)["state"] == "refused"
    asked = len(identity.asked)
    assert send(relay, "five").startswith("250 2.0.0 Ok: queued")
    assert len(identity.asked) == asked, "a held account asks nobody"
    before = len(graph.sent)

    allow(relay, identity, flow)  # which frees what waits
    assert (before, len(graph.wait_for(5))) == (3, 5)
    wait_until(lambda: not held(relay), "no hold")
    assert token_of(relay, ACCOUNT)["state"] == "ok"


def test_the_round_trip_and_the_mailbox_go_by_graph_too(
    start_relay: StartRelay, graph: GraphServer, identity: IdentityServer
) -> None:
    relay = started(start_relay, graph, identity, "code")
    graph.inbox.deliver(ME, b"Subject: a customer's\r\n\r\n")
    allow(relay, identity, "code")
    done = relay.command("channel", "test", "support", "--round-trip", "--json")
    result = json.loads(done.out)
    assert result["ok"], result
    steps = {step["step"]: step["detail"] for step in result["steps"]}
    assert steps["mailbox"] == f"logged in at 127.0.0.1:443 as {ME}; looks into INBOX and junkemail"
    assert steps["from"] == f"{ME}, as it was sent"
    assert [mail.octets for mail in graph.inbox.of(ME, "inbox")] == [b"Subject: a customer's\r\n\r\n"]
    wait_until(lambda: relay.ask("status")["mailboxes"][0]["state"] == "ok", "a look into the mailbox", 60)
