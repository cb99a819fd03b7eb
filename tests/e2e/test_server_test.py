"""`relay server test` and `relay channel test` against real servers: each step as it happens, in the server's words."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.canaries import RIGHT, WRONG, canary
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates, StartRelay
from tests.peers.postfix import Postfix
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.sink import Sink
from tests.peers.system import free_port

pytestmark = pytest.mark.needs("postfix", "dovecot", "submission", "root")

STEPS = ("resolve", "connect", "tls", "ehlo", "login", "mail", "rcpt", "message")
USER = "probe@upstream.example"
OWN = "own-probe@acmejets.example"


@pytest.fixture(scope="module")
def relay(dovecot: Dovecot, postfix: Postfix, certificates: Certificates) -> Iterator[Relay]:
    dovecot.add_users({USER: RIGHT, OWN: canary("own")})
    good: dict[str, Any] = {
        "host": dovecot.host,
        "port": dovecot.starttls_port,
        "username": USER,
        "ca_file": str(certificates.ca_file),
    }
    stranger = {"host": postfix.host, "port": postfix.port, "security": "none", "username": USER}
    servers = {
        "good": good,
        "implicit": {**good, "port": dovecot.tls_port, "security": "tls", "auth": "login"},
        "wrong": good,
        "untrusted": {**good, "ca_file": ""},
        "nowhere": {**good, "port": free_port()},
        "not-ours": {**stranger, "address": "stranger@owners.example"},
    }
    channels = {"support": {"address": OWN, "override": True}}
    with relay_process({"default_server": "good", "servers": servers, "channels": channels}) as relay:
        for name in servers:
            relay.set_password("server", name, WRONG if name == "wrong" else RIGHT)
        relay.set_password("channel", "support", canary("own"))
        yield relay


@pytest.mark.parametrize("server", ["good", "implicit"])
def test_every_step_of_a_good_server(server: str, relay: Relay, sink: Sink, certificates: Certificates) -> None:
    recipient = f"probe-{server}@customer.example"
    result = relay.ask("server", "test", server, "--to", recipient)
    assert result["ok"] is True
    assert tuple(step["step"] for step in result["steps"]) == STEPS
    assert all(step["ok"] for step in result["steps"])
    details = {step["step"]: step["detail"] for step in result["steps"]}
    assert "TLSv1." in details["tls"]
    assert "trustme" in details["tls"]
    assert "AUTH PLAIN LOGIN CRAM-MD5" in details["ehlo"]
    assert "Ok: kept" in details["message"]
    arrived = sink.wait_for(recipient)
    assert (arrived.login, arrived.sender, str(arrived.header["From"])) == (USER, USER, USER)


def test_no_send_ends_before_the_message(relay: Relay, sink: Sink) -> None:
    result = relay.ask("server", "test", "good", "--to", "unsent@customer.example", "--no-send")
    assert tuple(step["step"] for step in result["steps"]) == (*STEPS[:-1], "send-as")
    assert not sink.to("unsent@customer.example")


def test_a_channel_is_tested_with_its_own_account(relay: Relay, sink: Sink) -> None:
    done = relay.command("channel", "test", "support", "--to", "probe-channel@customer.example")
    assert done.status == 0, done.text
    arrived = sink.wait_for("probe-channel@customer.example")
    assert (arrived.login, arrived.sender) == (OWN, OWN)


@pytest.mark.parametrize(
    ("server", "step", "words"),
    [
        ("wrong", "login", "535 5.7.8 Authentication failed."),
        ("untrusted", "tls", "is not accepted: unable to get local issuer certificate"),
        ("nowhere", "connect", "connection refused by "),
        ("not-ours", "rcpt", f"Sender address rejected: not owned by user {USER}"),
    ],
)
def test_the_step_that_fails_and_the_servers_words(server: str, step: str, words: str, relay: Relay) -> None:
    done = relay.command("server", "test", server, "--to", "you@customer.example")
    assert done.status == 1
    assert "Traceback" not in done.text
    last = done.out.strip().splitlines()[-1]
    assert step in last
    assert words in last


def test_an_address_that_is_refused_at_mail_comes_with_what_to_do(start_relay: StartRelay, recorder: Recorder) -> None:
    recorder.replies["MAIL"] = b"550 5.7.1 Sender not allowed\r\n"
    relay = start_relay(one_channel(open_server(recorder.port)))
    done = relay.command("channel", "test", "support", "--no-send")
    assert done.status == 1
    assert "550 5.7.1 Sender not allowed; what to do: let the one who runs the server allow" in done.out
    assert recorder.messages == []
