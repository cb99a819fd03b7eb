"""`relay channel test --round-trip`: through Postfix into a real mailbox, and back by IMAP and POP3."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.canaries import RIGHT, WRONG, canary
from tests.peers.fixtures import Certificates
from tests.peers.mailboxes import JUNK, NEEDS, MailboxServer
from tests.peers.postfix import Postfix
from tests.peers.relay import Relay, open_server, relay_process

pytestmark = [pytest.mark.needs("postfix", "root", *NEEDS), pytest.mark.slow]

# A test of a step further below tells what each is: here only their order counts.
SENDING = ("resolve", "connect", "ehlo", "mail", "rcpt", "message")
SEEN = ("arrived", "spf", "dkim", "dmarc", "from", "removed")
NAMES = ("imap", "starttls", "pop", "rewritten", "wrong", "absent")


@pytest.fixture(scope="module")
def relay(receiver: Postfix, mailbox_host: MailboxServer, certificates: Certificates) -> Iterator[Relay]:
    def mailbox(protocol: str, security: str) -> dict[str, Any]:
        return {
            "host": "localhost",
            "port": mailbox_host.port(protocol, security),
            "protocol": protocol,
            "security": security,
            "ca_file": str(certificates.ca_file),
        }

    incoming = {
        "imap": mailbox("imap", "tls"),
        "starttls": mailbox("imap", "starttls"),
        "pop": mailbox("pop3", "tls"),
        "rewritten": mailbox("imap", "none"),
        "wrong": mailbox("imap", "tls"),
    }
    channels: dict[str, Any] = {name: {"address": f"{name}@acmejets.example", "override": True} for name in NAMES}
    for name, table in incoming.items():
        channels[name]["incoming"] = table
    mailbox_host.add_users({f"{name}@acmejets.example": RIGHT for name in NAMES})
    mailbox_host.add_users({"mailer@acmejets.example": canary("mailer")})
    server = {**open_server(receiver.port), "incoming": mailbox("imap", "tls")}
    server["incoming"]["username"] = "mailer@acmejets.example"
    agents = {"jane": {"address": "jane@acmejets.example"}}
    directory = {"default_server": "acmejets", "servers": {"acmejets": server}, "channels": channels, "agents": agents}
    with relay_process(directory) as relay:
        for name in incoming:
            set_password(relay, "channel", name, WRONG if name == "wrong" else RIGHT)
        set_password(relay, "server", "acmejets", canary("mailer"))
        yield relay


def set_password(relay: Relay, noun: str, name: str, password: str) -> None:
    done = relay.command(noun, "password", name, "--incoming", "--password-stdin", data=password + "\n")
    assert done.status == 0, done.text


def steps_of(relay: Relay, *arguments: str) -> tuple[bool, dict[str, dict[str, Any]]]:
    done = relay.command(*arguments, "--round-trip", "--json")
    result = json.loads(done.out)
    assert done.status == (0 if result["ok"] else 1)
    return result["ok"], {step["step"]: step for step in result["steps"]}


@pytest.mark.parametrize("name", ["imap", "starttls", "pop"])
def test_a_message_is_found_where_it_arrives_and_told_about(
    name: str, relay: Relay, mailbox_host: MailboxServer
) -> None:
    is_good, steps = steps_of(relay, "channel", "test", name)
    assert is_good, steps
    assert tuple(steps) == ("mailbox", *SENDING, *SEEN)
    assert steps["arrived"]["detail"].startswith("in INBOX after ")
    assert steps["spf"]["detail"] == "pass for acmejets.example (says receiver.test)"
    assert steps["dkim"]["detail"] == "pass for acmejets.example (says receiver.test)"
    assert steps["dmarc"]["detail"] == "pass for acmejets.example (says receiver.test)"
    assert steps["from"]["detail"] == f"{name}@acmejets.example, as it was sent"
    assert mailbox_host.files(f"{name}@acmejets.example") == []


def test_other_mail_in_the_mailbox_stays_unread(relay: Relay, mailbox_host: MailboxServer) -> None:
    user = "imap@acmejets.example"
    mailbox_host.deliver(user, b"Subject: a customer's\r\n\r\nHello\r\n")
    assert steps_of(relay, "channel", "test", "imap")[0]
    (left,) = mailbox_host.files(user)
    assert b"a customer's" in left.read_bytes()
    assert "S" not in left.name.partition(":2,")[2]
    left.unlink()


def test_the_junk_folder_is_a_failure_that_says_so(relay: Relay, mailbox_host: MailboxServer) -> None:
    is_good, steps = steps_of(relay, "channel", "test", "imap", "--to", f"imap+{JUNK}@acmejets.example")
    assert not is_good
    assert not steps["arrived"]["ok"]
    assert steps["arrived"]["detail"].startswith(f"in the junk folder {JUNK} after ")
    assert steps["dmarc"]["ok"]
    assert mailbox_host.files("imap@acmejets.example", JUNK) == []


def test_a_provider_that_replaces_the_sender_is_found_out(relay: Relay) -> None:
    done = relay.command("channel", "test", "rewritten", "--round-trip")
    assert done.status == 1
    (line,) = [line for line in done.out.splitlines() if line.startswith("FAILED")]
    assert "mailer@acmejets.example arrived and rewritten@acmejets.example was sent" in line


def test_a_wrong_password_sends_nothing(relay: Relay, mailbox_host: MailboxServer) -> None:
    is_good, steps = steps_of(relay, "channel", "test", "wrong")
    assert (is_good, tuple(steps)) == (False, ("mailbox",))
    assert "the login as wrong@acmejets.example was refused: " in steps["mailbox"]["detail"]
    assert mailbox_host.files("wrong@acmejets.example") == []


def test_a_profile_without_override_comes_back_to_the_servers_mailbox(relay: Relay) -> None:
    is_good, steps = steps_of(relay, "agent", "test", "jane")
    assert is_good, steps
    assert steps["from"]["detail"] == "mailer@acmejets.example, as it was sent"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("absent",), "'absent' has no mailbox; set incoming.host first"),
        (("imap", "--no-send"), "a round trip sends a message; leave one of --round-trip and --no-send out"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments: tuple[str, ...], sentence: str, relay: Relay) -> None:
    done = relay.command("channel", "test", *arguments, "--round-trip")
    assert (done.status, done.out) == (1, "")
    assert sentence in done.err


def test_the_mailbox_has_its_password_in_the_list_of_secrets(relay: Relay) -> None:
    owners = {record["owner"]: record for record in relay.ask("secrets", "list")}
    assert owners["incoming/imap"]["source"] == "vault"
    assert owners["incoming/imap"]["used"] is True
    assert owners["incoming/server/acmejets"]["used"] is True
