"""SIGHUP: what may change does, what may not is named, a fault changes nothing, and nobody loses a connection."""

import http.client
import json
import math
import signal
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.peers.clients import Endpoint
from tests.peers.raw import RawClient
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import LOOPBACK, free_port, wait_until

pytestmark = pytest.mark.slow

SENDER = "support@acmejets.example"
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
WEB_PORT = free_port()
FIRST: Mapping[str, Any] = {"web": {"address": f"{LOOPBACK}:{WEB_PORT}"}}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with recorder_server() as server:
        yield server


@pytest.fixture(scope="module")
def running(upstream: Recorder) -> Iterator[Relay]:
    with relay_process(one_channel(open_server(upstream.port)), FIRST) as relay:
        yield relay


@pytest.fixture
def relay(running: Relay) -> Iterator[Relay]:
    """The relay with the settings that it started with."""
    yield running
    reload(running, {})


def reload(relay: Relay, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Let a relay read these settings; return what it said of them, once it is through with both files."""
    relay.write_settings({**FIRST, **settings})
    return hang_up(relay)


def hang_up(relay: Relay) -> list[dict[str, Any]]:
    before = len(relay.log.splitlines())
    relay.signal(signal.SIGHUP)

    def said() -> list[dict[str, Any]]:
        return [json.loads(line) for line in relay.log.splitlines()[before:] if line[0] == "{"]

    # With a level above info nothing is said of what changed, so that what a warning says has to do.
    wait_until(lambda: any(line["event"] in {"changed", "warned", "broken"} for line in said()), "a word on the reload")
    wait_until(lambda: any(line.get("what") == "directory" for line in said()), "the end of the reload")
    # Beside it there may be steps of messages.
    return [line for line in said() if line["level"] != "debug" and line.get("what") != "directory"]


def listener(relay: Relay, **keys: Any) -> dict[str, Any]:
    return {"listener": [{"address": f"{LOOPBACK}:{relay.port}", **keys}]}


def submit(relay: Relay, content: bytes = MESSAGE, sender: str = SENDER) -> str:
    with relay.connect() as client:
        return client.submit(sender, "you@customer.example", content)


def test_what_changed_is_one_line_with_its_keys(relay: Relay) -> None:
    (line,) = reload(relay, {"delivery": {"mode": "auto", "retry": ["7m"]}, "dns": {"servers": ["127.0.0.1:53"]}})
    assert (line["event"], line["what"]) == ("changed", "settings")
    assert line["file"] == str(relay.settings_file)
    assert line["keys"] == ["delivery.mode", "delivery.retry", "dns.servers"]
    assert hang_up(relay) == [], "the second time nothing is new"


def test_the_mode_and_the_policy_are_others_for_the_next_message(relay: Relay) -> None:
    assert submit(relay).startswith("250 2.0.0 Ok: delivered")
    stranger = "stranger@nowhere.example"
    assert submit(relay, sender=stranger).startswith("550 5.7.1")
    other = b"From: jane@acmejets.example\r\n" + MESSAGE
    assert relay.command("channel", "add", "jane", "--address", "jane@acmejets.example", "--override").status == 0
    assert submit(relay, other).startswith("250")
    policy = {"unknown_sender": "default", "from_mismatch": "reject"}
    reload(relay, {"delivery": {"mode": "queued"}, "policy": policy})
    assert submit(relay).startswith("250 2.0.0 Ok: queued")
    assert submit(relay, sender=stranger).startswith("250")
    assert submit(relay, other).startswith("550 5.7.1 From header")


def test_limits_count_for_who_comes_then_and_nobody_is_cut_off(relay: Relay) -> None:
    with relay.connect() as before:
        assert "SIZE 37748736" in before.say("EHLO before")
        assert before.say(f"MAIL FROM:<{SENDER}>")[:3] == "250"
        reload(relay, {"limits": {"message_size": 1000, "recipients": 3, "connections": 2}})
        assert before.say("RCPT TO:<you@customer.example>")[:3] == "250"
        assert before.say("DATA")[:3] == "354"
        before.send(MESSAGE + b"x" * 2000 + b"\r\n.\r\n")
        assert before.reply()[:3] == "250", "it is held to what it was told"
        with relay.connect() as after:
            said = after.say("EHLO after")
            assert "SIZE 1000" in said
            assert "RCPTMAX=3" in said
            with relay.connect() as one_too_many:
                assert one_too_many.greeting.startswith("421 4.7.0")


def test_who_may_send_what_is_another_for_who_comes_then(relay: Relay) -> None:
    rules = listener(relay, may_send_as=[])
    (line,) = reload(relay, rules)
    assert line["keys"] == ["listener.local.may_send_as"]
    assert submit(relay).startswith("550 5.7.1")
    reload(relay, listener(relay, trusted_networks=["192.0.2.0/24"]))
    assert submit(relay).startswith("530 5.7.0")
    reload(relay, listener(relay, auth="required"))
    assert submit(relay).startswith("530 5.7.0")
    reload(relay, {})
    assert submit(relay).startswith("250")


def test_submit_sock_goes_with_the_listener_that_trusts_loopback(relay: Relay) -> None:
    own = Endpoint(path=relay.state_dir / "submit.sock")
    reload(relay, listener(relay, may_send_as=[]))
    with RawClient(own) as client:
        assert client.submit(SENDER, "you@customer.example", MESSAGE).startswith("550 5.7.1")
    # Where none trusts loopback, the relay's own user may send as anybody there.
    reload(relay, listener(relay, auth="required"))
    with RawClient(own) as client:
        assert client.submit(SENDER, "you@customer.example", MESSAGE).startswith("250")


def test_the_level_of_the_log(relay: Relay) -> None:
    assert submit(relay).startswith("250")
    wait_until(lambda: relay.log.splitlines()[-1].find('"accepted"') > 0, "a step, which is told at debug")
    reload(relay, {"log": {"format": "json", "level": "info"}})
    count = len(relay.log.splitlines())
    assert submit(relay).startswith("250")
    wait_until(lambda: len(relay.log.splitlines()) > count, "its line")
    assert [json.loads(line)["event"] for line in relay.log.splitlines()[count:]] == ["delivered"]


def test_what_needs_a_restart_is_named_once_for_each_reload(relay: Relay) -> None:
    lines = reload(relay, {"hostname": "other.test", "limits": {"recipients": 7}})
    assert [line["event"] for line in lines] == ["changed", "warned"]
    assert lines[0]["keys"] == ["limits.recipients"]
    assert lines[1]["keys"] == ["hostname"]
    (again,) = hang_up(relay)
    assert again["keys"] == ["hostname"]
    assert "need a restart: hostname" in relay.command("status").out
    with relay.connect() as client:
        assert "relay.test" in client.greeting


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"delivery": {"patience": "long"}}, "delivery.patience"),
        ({"tls": {"certificate": "/nowhere/chain.pem", "key": "/nowhere/key.pem"}}, "tls.certificate"),
        ({"listener": [{"may_send_as": ["nobody"]}]}, "listener.local.may_send_as"),
    ],
    ids=["a value", "a certificate", "the directory"],
)
def test_a_fault_keeps_all_settings_as_they_were(settings: Mapping[str, Any], key: str, relay: Relay) -> None:
    if "listener" in settings:
        settings = listener(relay, **settings["listener"][0])
    (line,) = reload(relay, {**settings, "limits": {"message_size": 1000}})
    assert line["event"] == "broken"
    assert key in line["faults"][0]
    assert submit(relay, MESSAGE + b"x" * 2000 + b"\r\n").startswith("250")
    assert relay.counters()["relay_settings_ok"] == 0
    if "delivery" in settings:
        return  # commands cannot read the file either, and say so
    shown = relay.command("status")
    assert shown.status == 0
    assert "have faults; the ones from before them are in effect" in shown.out
    assert f"  {relay.settings_file}: {key}: " in shown.out


def test_a_file_that_is_gone_keeps_them_too(relay: Relay) -> None:
    relay.settings_file.unlink()
    (line,) = hang_up(relay)
    assert line["event"] == "broken"
    assert "there is no such file" in line["faults"][0]
    assert submit(relay).startswith("250")


def test_the_pages_have_another_name(relay: Relay) -> None:
    assert asked_as(f"{LOOPBACK}:{WEB_PORT}") == 200
    assert asked_as("relay.acmejets.example") == 421
    reload(relay, {"web": {**FIRST["web"], "public_url": "http://relay.acmejets.example"}})
    assert asked_as("relay.acmejets.example") == 200


def asked_as(host: str) -> int:
    connection = http.client.HTTPConnection(LOOPBACK, WEB_PORT, timeout=20)
    connection.request("GET", "/sign-in", headers={"Host": host})
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def test_tls_comes_and_its_certificate_changes(relay: Relay) -> None:
    old, new = trustme.CA(), trustme.CA()
    tls = {
        "tls": {"certificate": str(relay.folder / "chain.pem"), "key": str(relay.folder / "key.pem")},
        **listener(relay, security="starttls"),
    }
    write_pair(relay.folder, old)
    with relay.connect() as before:
        (line,) = reload(relay, tls)
        assert set(line["keys"]) == {"tls.certificate", "tls.key", "listener.local.security"}
        assert "STARTTLS" not in before.say("EHLO before")
    assert issuer(relay, old)
    wait_until(lambda: relay.counters().get("relay_tls_total TLSv1.3") == 1, "the handshake among the counters")
    assert time.time() < relay.counters()["relay_certificate_expires_seconds"] < math.inf
    write_pair(relay.folder, new)
    assert [line["what"] for line in hang_up(relay)] == ["certificate"], "also while nobody comes"
    assert issuer(relay, new)
    (relay.folder / "key.pem").write_text("no key")
    (line,) = hang_up(relay)
    assert line["event"] == "broken"
    assert issuer(relay, new), "the last good pair stays"
    reload(relay, {})
    with relay.connect() as client:
        assert "STARTTLS" not in client.say("EHLO plain")


def write_pair(folder: Path, authority: trustme.CA) -> None:
    pair = authority.issue_cert(LOOPBACK)
    pair.cert_chain_pems[0].write_to_path(str(folder / "chain.pem"))
    pair.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "key.pem").chmod(0o600)


def issuer(relay: Relay, authority: trustme.CA) -> bool:
    """Whether the relay has a certificate of this authority. ssl.SSLError where it has not."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with socket.create_connection((LOOPBACK, relay.port), 20) as plain:
        file = plain.makefile("rb")
        file.readline()
        plain.sendall(b"EHLO tls\r\n")
        while file.readline()[3:4] == b"-":
            pass
        plain.sendall(b"STARTTLS\r\n")
        assert file.readline().startswith(b"220")
        with context.wrap_socket(plain, server_hostname=LOOPBACK) as protected:
            protected.sendall(b"QUIT\r\n")
            return protected.makefile("rb").readline().startswith(b"221")
