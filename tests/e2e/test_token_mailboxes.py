"""Mailboxes behind OAuth: one authorization sends, brings the round trip back and reads what was returned."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.oauth_kit import DOMAIN, QUICK, by_code, directory, submit
from tests.peers.canaries import RIGHT
from tests.peers.dovecot import Dovecot, dovecot_server
from tests.peers.fixtures import Certificates, StartRelay
from tests.peers.mailboxes import NEEDS, MailboxServer
from tests.peers.oidc import IdentityServer
from tests.peers.postfix import Postfix
from tests.peers.relay import Relay
from tests.peers.system import wait_until

pytestmark = [pytest.mark.needs("submission", "postfix", "root", *NEEDS), pytest.mark.slow]

USER = f"code@{DOMAIN}"


@pytest.fixture
def way_out(receiver: Postfix, certificates: Certificates) -> Iterator[Dovecot]:
    """A server that takes tokens, and delivers into the mailboxes."""
    with dovecot_server(receiver.port, certificates.server) as server:
        yield server


@pytest.fixture
def relay(
    start_relay: StartRelay,
    identity: IdentityServer,
    way_out: Dovecot,
    mailbox_host: MailboxServer,
    certificates: Certificates,
) -> Relay:
    mailbox_host.add_users({USER: RIGHT})
    for path in mailbox_host.files(USER):
        path.unlink()
    found = directory(identity, way_out, certificates)
    found["channels"]["code"]["incoming"] = {
        "host": way_out.host,
        "port": mailbox_host.imaps_port,
        "auth": "oauth2",
        "ca_file": str(certificates.ca_file),
        "watch_bounces": True,
    }
    return start_relay(found, QUICK)


def mailbox_state(relay: Relay) -> tuple[str, str]:
    (mailbox,) = relay.ask("status")["mailboxes"]
    return mailbox["state"], mailbox["reason"]


def wait_for_state(relay: Relay, state: str) -> None:
    wait_until(lambda: mailbox_state(relay)[0] == state, f"a mailbox that is {state}", 60)


def test_one_authorization_sends_and_reads_what_comes_back(
    relay: Relay, identity: IdentityServer, mailbox_host: MailboxServer
) -> None:
    wait_for_state(relay, "failing")
    assert mailbox_state(relay)[1].endswith("has no authorization; authorize it with: relay channel authorize code")
    assert by_code(relay, identity).status == 0
    wait_for_state(relay, "ok")
    done = relay.command("channel", "test", "code", "--round-trip", "--json")
    result = json.loads(done.out)
    assert result["ok"], result
    assert {"mailbox", "arrived", "removed"} <= {step["step"] for step in result["steps"]}
    assert submit(relay, "code", "gone@customer.example").startswith("250 2.0.0 Ok: delivered"), relay.last_words
    wait_until(lambda: mailbox_host.files(USER), "the report in the mailbox", 30)
    relay.stop()
    relay.start()  # which looks at once

    def returned() -> str | None:
        (sent,) = relay.ask("messages", "list", "--to", "gone@customer.example")
        (recipient,) = relay.ask("messages", "show", sent["id"])["recipients"]
        return recipient["returned"] and str(recipient["returned"]["status"])

    assert wait_until(returned, "the report beside the message", 60) == "5.1.1"
    done = relay.command("channel", "password", "code", "--incoming", "--password-stdin", data=RIGHT + "\n")
    assert (done.status, "is read by OAuth, without a password of its own" in done.err) == (1, True)


def test_a_mailbox_that_was_shut_is_read_again_with_a_new_authorization(
    relay: Relay, identity: IdentityServer, mailbox_host: MailboxServer
) -> None:
    identity.behaviour.forges = True
    assert by_code(relay, identity).status == 0
    wait_until(lambda: "by OAuth was refused" in mailbox_state(relay)[1], "a refused login", 60)
    assert "authorize it with: relay channel authorize code" in mailbox_state(relay)[1]
    identity.behaviour.forges = False
    assert by_code(relay, identity).status == 0
    wait_for_state(relay, "ok")
