"""Returned mail end to end: Postfix takes a message, cannot deliver it, and its report shows in our history."""

import pytest

from tests.peers.canaries import RIGHT
from tests.peers.fixtures import Certificates, StartRelay
from tests.peers.mailboxes import NEEDS, MailboxServer
from tests.peers.postfix import Postfix
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until
from tests.unit.mail.bounce_samples import EXIM, SENT

pytestmark = [pytest.mark.needs("postfix", "root", *NEEDS), pytest.mark.slow]

USER = "support@acmejets.example"
GONE = "gone@customer.example"


def submit(relay: Relay, *recipients: str, message_id: str = SENT) -> str:
    """Send a message and return its id in the history, once it is there."""
    with relay.connect() as client:
        client.envelope(USER, *recipients)
        client.say("DATA")
        client.send(f"From: {USER}\r\nMessage-ID: {message_id}\r\nSubject: ticket\r\n\r\nHello\r\n.\r\n".encode())
        assert client.reply().startswith("250 2.0.0")

    def found() -> str | None:
        records = relay.ask("messages", "list", "--message-id", message_id)
        return next((record["id"] for record in records if record["recipients"][0]["address"] == recipients[0]), None)

    return wait_until(found, "the message in the history")


def mailbox_state(relay: Relay) -> str:
    (mailbox,) = relay.ask("status")["mailboxes"]
    assert mailbox["state"] != "failing", mailbox
    return str(mailbox["state"])


def look_again(relay: Relay) -> None:
    """A relay that starts looks at once, from where it was before."""
    relay.stop()
    relay.start()
    wait_until(lambda: mailbox_state(relay) == "ok", "a look into the mailbox", 30)


@pytest.fixture
def relay(receiver: Postfix, mailbox_host: MailboxServer, certificates: Certificates, start_relay: StartRelay) -> Relay:
    for user in (USER, "ann@customer.example"):
        mailbox_host.add_users({user: RIGHT})
        for path in mailbox_host.files(user):
            path.unlink()
    mailbox_host.deliver(USER, EXIM)  # an old one, from before we look
    directory = one_channel(open_server(receiver.port))
    directory["channels"]["support"]["incoming"] = {
        "host": "localhost",
        "port": mailbox_host.imaps_port,
        "ca_file": str(certificates.ca_file),
        "watch_bounces": True,
    }
    relay = start_relay(directory, {"delivery": {"mode": "auto"}}, starts=False)
    done = relay.command("channel", "password", "support", "--incoming", "--password-stdin", data=RIGHT + "\n")
    assert done.status == 0, done.text
    relay.start()
    wait_until(lambda: mailbox_state(relay) == "ok", "the first look into the mailbox", 30)
    return relay


def test_what_postfix_returns_is_shown_with_the_message(relay: Relay, mailbox_host: MailboxServer) -> None:
    id_ = submit(relay, "ann@customer.example", GONE)
    wait_until(lambda: len(mailbox_host.files(USER)) > 1, "the report in the mailbox", 30)
    look_again(relay)
    shown = relay.ask("messages", "show", id_)
    delivered, returned = shown["recipients"]
    assert (delivered["address"], delivered["returned"]) == ("ann@customer.example", None)
    assert (returned["address"], returned["state"]) == (GONE, "delivered"), "a report changes no state"
    assert returned["returned"]["status"] == "5.1.1"
    assert "User doesn't exist" in returned["returned"]["words"]
    assert returned["returned"]["reporter"] == "postfix.test"
    line = next(line.strip() for line in relay.command("messages", "show", id_).out.splitlines() if "returned" in line)
    assert line.startswith("returned by postfix.test: ")
    assert "5.1.1" in line
    assert '"event": "returned"' in relay.log
    names = [path.name.partition(":2,")[2] for path in mailbox_host.files(USER)]
    assert names == [name for name in names if "S" not in name], "the reports stay, unread"
    assert len(names) == 2


def test_old_reports_others_recipients_and_other_senders_mail_are_not_marked(
    relay: Relay, mailbox_host: MailboxServer
) -> None:
    mine = submit(relay, "bob@customer.example")
    wait_until(lambda: len(mailbox_host.files(USER)) > 1, "the report about bob", 30)
    for path in mailbox_host.files(USER):
        path.unlink()
    # Reports about this very message, and about a recipient that it never had.
    mailbox_host.deliver(USER, EXIM)
    look_again(relay)
    assert [one["returned"] for one in relay.ask("messages", "show", mine)["recipients"]] == [None]
