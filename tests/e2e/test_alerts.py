"""Alerts: somebody is told by mail and by a webhook when something needs a person, and when it is over."""

from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ledger import message
from tests.peers.canaries import RIGHT, WRONG
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, open_server
from tests.peers.short_windows import Windows
from tests.peers.system import wait_until
from tests.peers.webhook_receiver import Receiver, webhook_receiver

OPS = "ops@acmejets.example"
SHORT = {
    "relay.alerts.watch._LOOK_SECONDS": 0.2,
    "relay.alerts.digest.GATHERED_SECONDS": 0.4,
    "relay.alerts.digest.OVER_SECONDS": 0.4,
    "relay.alerts.digest._PAUSE_SECONDS": [0.5] * 5,
}


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with webhook_receiver(tmp_path) as opened:
        yield opened


def directory(port: int) -> dict[str, Any]:
    login = {"auth": "plain", "allow_plaintext_password": True, "username": "mailer@acmejets.example"}
    own = {"override": True, "server": "second", "mode": "queued"}
    return {
        "default_server": "acmejets",
        "servers": {"acmejets": open_server(port, **login), "second": open_server(port)},
        "channels": {
            "support": {"address": "support@acmejets.example", "mode": "queued"},
            "sales": {"address": "sales@acmejets.example", **own},
        },
    }


def begin(start_relay: StartRelay, recorder: Recorder, receiver: Receiver) -> Relay:
    table = {"to": receiver.url, "secret_from": receiver.table["secret_from"]}
    delivery = {"mode": "auto", "retry": ["100ms"], "probe": ["1h"]}
    settings = {"delivery": delivery, "alert": [{"to": f"mailto:{OPS}"}, table]}
    relay = start_relay(directory(recorder.port), settings, starts=False)
    relay.windows = Windows(SHORT)
    relay.start()
    return relay


def mails(recorder: Recorder) -> list[EmailMessage]:
    """What came for the person who is told."""
    found = [message_from_bytes(raw, policy=default) for raw in recorder.messages]
    return [mail for mail in found if mail["To"] == OPS]


def texts(recorder: Recorder) -> str:
    return "\n".join(mail.get_content() for mail in mails(recorder))


def posted(receiver: Receiver) -> list[dict[str, Any]]:
    return [line["event"]["data"] for line in receiver.lines()]


def test_a_held_account_is_told_once_by_another_way_over_a_restart_and_when_it_is_over(
    start_relay: StartRelay, recorder: Recorder, receiver: Receiver
) -> None:
    relay = begin(start_relay, recorder, receiver)
    recorder.replies["AUTH"] = b"535 5.7.8 no such password\r\n"
    relay.set_password("server", "acmejets", WRONG)
    with relay.connect() as client:
        assert client.submit("support@acmejets.example", "ann@customer.example", message("one")).startswith("250")
    wait_until(lambda: "no such password" in texts(recorder), "a mail about it")
    (mail,) = mails(recorder)
    assert mail["From"] == "Relay <sales@acmejets.example>", (
        "the default server is the trouble, so another one is asked"
    )
    assert "account acmejets/mailer@acmejets.example is held (login-refused)" in mail.get_content()
    wait_until(lambda: posted(receiver), "what the webhook is told")
    (data,) = posted(receiver)
    assert [one["kind"] for one in data["new"]["troubles"]] == ["account-held"]
    (by_mail, by_post) = relay.ask("alert", "list")
    assert (by_mail["to"], by_post["to"]) == (f"mailto:{OPS}", receiver.url.partition("?")[0])
    assert [one["kind"] for one in by_mail["troubles"]] == ["account-held"]
    relay.stop()
    relay.start()
    assert relay.command("alert", "test", "2").status == 0
    recorder.replies["AUTH"] = b"235 2.7.0 Hello\r\n"
    relay.set_password("server", "acmejets", RIGHT)
    wait_until(lambda: "Over:" in texts(recorder), "a mail that it is over")
    assert len(mails(recorder)) == 2, "one about it, and one that it is over"
    wait_until(lambda: [one for one in posted(receiver) if one.get("over", {}).get("count")], "the webhook, too")
    assert [one["troubles"] for one in relay.ask("alert", "list")] == [[], []]


def test_a_test_is_a_mail_and_a_post(start_relay: StartRelay, recorder: Recorder, receiver: Receiver) -> None:
    relay = begin(start_relay, recorder, receiver)
    relay.set_password("server", "acmejets", RIGHT)
    assert relay.ask("alert", "test", "1")["ok"] is True
    wait_until(lambda: mails(recorder), "the mail")
    (mail,) = mails(recorder)
    assert (mail["Subject"], mail["From"]) == ("[relay relay.test] a test", "Relay <mailer@acmejets.example>")
    assert relay.ask("alert", "test", "2")["ok"] is True
    assert [line["event"]["type"] for line in receiver.lines()] == ["relay.test"]
    done = relay.command("alert", "test", "3")
    assert (done.status, "there is no alert 3" in done.err) == (1, True)


def test_the_doctor_looks_at_everything_by_himself(
    start_relay: StartRelay, recorder: Recorder, receiver: Receiver
) -> None:
    table = {"to": receiver.url, "secret_from": receiver.table["secret_from"], "on": ["self-check"]}
    nobody = {"servers": ["127.0.0.1:1"]}
    relay = start_relay(directory(recorder.port), {"alert": [table], "dns": nobody}, starts=False)
    relay.windows = Windows(SHORT)
    relay.set_password("server", "acmejets", WRONG)
    recorder.replies["AUTH"] = b"535 5.7.8 no such password\r\n"
    relay.start()
    wait_until(lambda: posted(receiver), "what he finds", 60)
    titles = [one["title"] for data in posted(receiver) for one in data["new"]["troubles"]]
    assert any("login" in title and "no such password" in title for title in titles), titles
    assert relay.ask("status")["accounts_held"] == [], "he holds nobody"
