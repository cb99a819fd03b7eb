"""Every reply that a client hears about its mail, from a real relay: DESIGN section 6 row by row, word for word.

The rows about a disk that is full are in test_disk.py, those about stopping in test_stopping.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.peers.canaries import canary
from tests.peers.clients import Endpoint
from tests.peers.raw import RawClient
from tests.peers.recorder import recorder_server
from tests.peers.relay import Relay, open_server, relay_process
from tests.peers.system import LOOPBACK, free_port

HOST = "acmejets.example"
YOU = "you@customer.example"
URL = "http://127.0.0.1:8025"
MODES = ("direct", "auto", "queued")
LOOP = b"Received: from a.example by b.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
OURS = b"Received: from a.example by relay.test with ESMTP id 1; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
MISMATCH = f"550 5.7.1 From header <ceo@bank.example> does not match the sender <jane@{HOST}>"
AT_MAIL = {
    f"<jane@{HOST}>": "250 2.1.0 Ok",
    "<nobody@bank.example>": "550 5.7.1 <nobody@bank.example>: no channel or agent sends from this address",
    f"<direct@{HOST}>": f"550 5.7.1 <direct@{HOST}>: jane may not send as this address",
    f"<bare@{HOST}>": f"550 5.7.8 <bare@{HOST}>: no email password is configured for this account; set it at {URL}*",
    "<jane>": "501 5.1.7 *",
    "<jane@>": "501 5.1.7 *",
    f"<jane@{HOST}> SIZE=100001": "552 5.3.4 *",
}
AT_END = {
    "a From of nobody's": (b"From: ceo@bank.example\r\n", MISMATCH),
    "a space before the colon": (b"Subject: x\r\nFrom : ceo@bank.example\r\n", "554 5.6.0 *line 2 *"),
    "a folded name": (b"Fr\r\n om: ceo@bank.example\r\n", "554 5.6.0 *line 1 *"),
    "bare LF and CRLF": (b"Subject: x\nTo: a@b.example\r\n", "554 5.6.0 *line 1 *"),
    "a bare CR": (b"Subject: x\r\nTo: a\rb\r\n", "554 5.6.0 *line 2 *"),
    "a NUL": (b"Subject: x\0\r\n", "554 5.6.0 *line 1 *"),
    "51 Received": (LOOP * 51, "554 5.4.6 *"),
    "50 Received": (LOOP * 50, "250 2.0.0 Ok: delivered via acmejets: Ok: recorded"),
    "ours three times": (OURS * 3, "554 5.4.6 *"),
    "ours twice": (OURS * 2, "250 2.0.0 Ok: delivered via acmejets: Ok: recorded"),
    "too large": (b"Subject: x\r\n\r\n" + b"x" * 100_000 + b"\r\n", "552 5.3.4 *"),
}


@dataclass(frozen=True, slots=True)
class House:
    """A relay with a listener that trusts loopback, and one that trusts nobody."""

    relay: Relay
    strange: Endpoint

    def as_jane(self) -> RawClient:
        """A client that has logged in."""
        client = self.relay.connect()
        assert client.log_in("jane", canary("jane")) == "235 2.7.0 You are logged in"
        return client


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with recorder_server({"AUTH": b"535 5.7.8 no\r\n"}) as recorder:
        trusted, strange = free_port(), free_port()
        listeners = [
            {"name": "trusted", "address": f"{LOOPBACK}:{trusted}"},
            {"name": "strange", "address": f"{LOOPBACK}:{strange}", "trusted_networks": []},
        ]
        limits = {"message_size": 100_000, "recipients": 2, "connections_per_client": 2}
        settings = {"listener": listeners, "limits": limits, "delivery": {"retry": ["1h"], "probe": ["1h"]}}
        web = {"address": f"{LOOPBACK}:{free_port()}"}
        with relay_process(directory(recorder.port), {**settings, "web": web}, starts=False) as relay:
            relay.port = trusted
            relay.set_password("server", "guarded", canary("guarded"))
            done = relay.command("agent", "password", "jane", "--login", "--password-stdin", data=canary("jane") + "\n")
            assert done.status == 0, done.text
            relay.start()
            yield House(relay, Endpoint(port=strange))


def directory(port: int) -> dict[str, Any]:
    guarded = open_server(port, auth="plain", username=f"mailer@{HOST}")
    held = {f"held-{mode}": {"address": f"held-{mode}@{HOST}", "server": "guarded", "mode": mode} for mode in MODES}
    return {
        "default_server": "acmejets",
        "servers": {"acmejets": open_server(port), "guarded": guarded},
        "channels": {
            **{mode: {"address": f"{mode}@{HOST}", "override": True, "mode": mode} for mode in MODES},
            **held,
            "bare": {"address": f"bare@{HOST}", "override": True, "server": "guarded"},
        },
        "agents": {"jane": {"address": f"jane@{HOST}", "override": True, "mode": "direct", "may_send_as": ["bare"]}},
    }


def has(reply: str, promised: str) -> None:
    assert fnmatchcase(reply, promised), f"{reply!r} is not {promised!r}"


@pytest.mark.parametrize("argument", AT_MAIL)
def test_at_mail(argument: str, house: House) -> None:
    with house.as_jane() as client:
        has(client.say(f"MAIL FROM:{argument}"), AT_MAIL[argument])


@pytest.mark.parametrize("case", AT_END)
def test_at_the_end_of_data(case: str, house: House) -> None:
    header, promised = AT_END[case]
    with house.as_jane() as client:
        has(client.submit(f"jane@{HOST}", YOU, header + b"\r\nhello\r\n"), promised)


@pytest.mark.parametrize("sender", [f"jane@{HOST}", "", "nobody@bank.example"])
def test_without_a_login_a_stranger_is_told_to_log_in(sender: str, house: House) -> None:
    with RawClient(house.strange) as client:
        client.say("EHLO x")
        assert client.say(f"MAIL FROM:<{sender}>") == "530 5.7.0 Authentication required"


@pytest.mark.parametrize("mode", MODES)
def test_accepted_or_queued(mode: str, house: House) -> None:
    promised = (
        "250 2.0.0 Ok: queued as ?*" if mode == "queued" else "250 2.0.0 Ok: delivered via acmejets: Ok: recorded"
    )
    with house.relay.connect() as client:
        has(client.submit(f"{mode}@{HOST}", YOU, b"Subject: x\r\n\r\n"), promised)


@pytest.mark.parametrize("mode", MODES)
def test_an_account_that_is_held(mode: str, house: House) -> None:
    with house.relay.connect() as client:
        client.submit(f"held-direct@{HOST}", YOU, b"Subject: x\r\n\r\n")  # its login is refused, at the latest now
    states = {one["account"]: one["state"] for one in house.relay.ask("account", "list")}
    assert states[f"guarded/mailer@{HOST}"] == "held"
    with house.relay.connect() as client:
        reply = client.submit(f"held-{mode}@{HOST}", YOU, b"Subject: x\r\n\r\n")
    has(reply, "451 4.7.8 ?*" if mode == "direct" else "250 2.0.0 *queued as ?*")


def test_recipients(house: House) -> None:
    with house.as_jane() as client:
        client.say(f"MAIL FROM:<jane@{HOST}>")
        has(client.say("RCPT TO:<you>"), "501 5.1.3 ?*")
        has(client.say("RCPT TO:<you@a..example>"), "501 5.1.3 ?*")
        assert [client.say(f"RCPT TO:<{name}@customer.example>")[:3] for name in "ab"] == ["250", "250"]
        has(client.say("RCPT TO:<c@customer.example>"), "452 4.5.3 ?*")


def test_too_many_connections_of_one_stranger(house: House) -> None:
    with RawClient(house.strange) as first, RawClient(house.strange) as second:
        assert [first.greeting[:3], second.greeting[:3]] == ["220", "220"]
        with RawClient(house.strange) as third:
            has(third.greeting, "421 4.7.0 ?*")
            assert third.reply() == ""


def test_bad_logins_until_there_are_too_many(house: House) -> None:
    replies = []
    for _ in range(6):
        with house.relay.connect() as client:
            replies.append(client.log_in("direct", canary("wrong")))
    for reply in replies[:4]:
        has(reply, "535 5.7.8 ?*")
    for reply in replies[4:]:
        has(reply, "421 4.7.0 ?*")
