"""A Postfix that lets an account send only as the addresses it owns, as providers do, takes mail sent each way."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.canaries import canary
from tests.peers.dovecot import Dovecot
from tests.peers.postfix import Postfix
from tests.peers.relay import Relay, relay_process
from tests.peers.sink import Sink
from tests.peers.system import wait_until

pytestmark = pytest.mark.needs("postfix", "dovecot", "submission", "root")

SHARED = "mailer@owners.example"
OWN = "support@owners.example"
MESSAGE = b"From: %s\r\nSubject: hello\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def relay(postfix: Postfix, dovecot: Dovecot) -> Iterator[Relay]:
    dovecot.add_users({SHARED: canary("shared"), OWN: canary("own")})
    server: dict[str, Any] = {
        "host": postfix.host,
        "port": postfix.port,
        "security": "none",
        "auth": "plain",
        "username": SHARED,
    }
    stranger = {**server, "address": "stranger@owners.example"}
    directory = {
        "default_server": "house",
        "servers": {"house": {**server, "internal": True}, "desk": server, "wrong": stranger},
        "channels": {
            "sales": {"address": "sales@owners.example"},
            "billing": {"address": "billing@owners.example", "server": "desk"},
            "support": {"address": OWN, "server": "desk", "override": True},
            "press": {"address": "press@owners.example", "server": "wrong"},
        },
        "applications": {"desk": {"may_send_as": ["support", "billing"]}},
    }
    with relay_process(directory) as relay:
        for name in ("house", "desk", "wrong"):
            relay.set_password("server", name, canary("shared"))
        relay.set_password("channel", "support", canary("own"))
        relay.set_password("application", "desk", canary("desk"))
        yield relay


@pytest.mark.parametrize(("name", "account"), [("sales", SHARED), ("billing", SHARED), ("support", OWN)])
def test_the_account_owns_what_it_sends_as(name: str, account: str, relay: Relay, postfix: Postfix, sink: Sink) -> None:
    recipient = f"owned.{name}@customer.example"
    sender = f"{name}@owners.example"
    with relay.connect() as client:
        assert client.submit(sender, recipient, MESSAGE % sender.encode()).startswith("250 "), relay.last_words
    arrived = sink.wait_for(recipient)
    assert (arrived.sender, str(arrived.header["From"])) == (account, account)
    wait_until(lambda: ("PLAIN", account) in postfix.logins, f"the login of {account} in Postfix's log")


@pytest.mark.parametrize(("name", "account"), [("billing", SHARED), ("support", OWN)])
def test_an_application_sends_through_the_account_of_each_profile_that_it_may_use(
    name: str, account: str, relay: Relay, sink: Sink
) -> None:
    recipient = f"application.{name}@customer.example"
    sender = f"{name}@owners.example"
    with relay.connect() as client:
        assert client.log_in("desk", canary("desk")).startswith("235 ")
        assert client.submit(sender, recipient, MESSAGE % sender.encode()).startswith("250 "), relay.last_words
        refused = client.submit("sales@owners.example", recipient, MESSAGE % sender.encode())
    assert refused.startswith("550 5.7.1 <sales@owners.example>: desk may not send as this address")
    arrived = sink.wait_for(recipient)
    assert (arrived.login, arrived.sender, str(arrived.header["From"])) == ("", account, account)


def test_a_sender_that_the_account_does_not_own_waits_for_the_administrator(relay: Relay) -> None:
    with relay.connect() as client:
        reply = client.submit("press@owners.example", "you@customer.example", MESSAGE % b"press@owners.example")
    assert reply.startswith("451 4.7.8")
