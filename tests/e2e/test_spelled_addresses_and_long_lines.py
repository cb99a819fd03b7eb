"""Mail that other servers would read otherwise: lines over 998 octets, names that turn, addresses that look alike."""

import re
from collections.abc import Iterator
from functools import partial

import pytest

from tests.peers.canaries import canary
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, open_server, relay_process
from tests.peers.system import wait_until

YOU = "you@customer.example"
SPELLINGS = {"one": "strasse@acmejets.example", "two": "straße@acmejets.example"}
JANE = "jane@acmejets.example"
REFERENCES = b"References:" + b"".join(b" <%028d@mail.customer.example>" % number for number in range(29))
OVER = b"DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=x; h=from:references; bh=x; b=x\r\n"
OTHER = b"DKIM-Signature: v=1; a=rsa-sha256; d=b.example; s=x; h=from:subject; bh=x; b=x\r\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def house(upstream: Recorder) -> Iterator[Relay]:
    agents = {name: {"address": address, "override": True} for name, address in {**SPELLINGS, "jane": JANE}.items()}
    directory = {
        "default_server": "acmejets",
        "servers": {"acmejets": open_server(upstream.port)},
        "agents": agents,
    }
    with relay_process(directory) as relay:
        for name in SPELLINGS:
            done = relay.command("agent", "password", name, "--login", "--password-stdin", data=canary(name) + "\n")
            assert done.status == 0, done.text
        yield relay


def sent(relay: Relay, fields: bytes) -> str:
    """Submit a message of Jane's with these fields; return the last reply."""
    with relay.connect() as client:
        client.say("EHLO raw.test")
        return client.submit(JANE, YOU, fields + b"\r\nHello\r\n")


def unfolded(message: bytes) -> bytes:
    return re.sub(rb"\r\n(?=[ \t])", b"", message)


def test_a_long_line_leaves_folded_without_the_signature_over_it(house: Relay, upstream: Recorder) -> None:
    assert len(REFERENCES) > 1_500
    fields = b"From: jane@acmejets.example\r\nSubject: long\r\n" + OVER + OTHER + REFERENCES + b"\r\n"
    assert sent(house, fields).startswith("250 2.0.0 Ok: delivered via acmejets")
    left = upstream.messages[-1]
    assert max(map(len, left.split(b"\r\n"))) <= 998
    assert REFERENCES + b"\r\n" in unfolded(left)
    assert OTHER in left
    assert b"d=a.example" not in left
    wait_until(lambda: house.ask("messages", "list", "--sender", JANE), "the history")
    newest = house.ask("messages", "list", "--sender", JANE)[0]
    (attempt,) = house.ask("messages", "show", newest["id"])["attempts"]
    assert {change["field"] for change in attempt["changes"]} >= {"DKIM-Signature", "References"}
    assert "References" in house.command("messages", "show", newest["id"]).out


@pytest.mark.parametrize("line", [b"X-Long: " + b"x" * 999, b"References:" + b"<" + b"x" * 1500 + b"@a.example>"])
def test_a_long_line_without_a_place_to_fold_is_refused(house: Relay, upstream: Recorder, line: bytes) -> None:
    before = len(upstream.messages)
    said = sent(house, b"From: jane@acmejets.example\r\n" + line + b"\r\n")
    assert re.match(r"554 5\.6\.0 .*(X-Long|References).* over 998 octets", said)
    assert len(upstream.messages) == before


def test_a_display_name_that_turns_leaves_straight(house: Relay, upstream: Recorder) -> None:
    name = "Jane \u202emoc.knab\u202c \u2066Doe\u2069"
    assert sent(house, f'From: "{name}" <{JANE}>\r\nSubject: x\r\n'.encode()).startswith("250 ")
    left = upstream.messages[-1].decode()
    assert f'From: "Jane moc.knab Doe" <{JANE}>\r\n' in left or f"From: Jane moc.knab Doe <{JANE}>\r\n" in left


def test_two_who_differ_by_a_sharp_s_log_in_and_send_as_themselves(house: Relay, upstream: Recorder) -> None:
    for name, address in SPELLINGS.items():
        other = next(one for one in SPELLINGS if one != name)
        with house.connect() as client:
            assert client.log_in(address, canary(other)).startswith("535 ")
        with house.connect() as client:
            assert client.log_in(address, canary(name)).startswith("235 ")
            assert client.say(f"MAIL FROM:<{SPELLINGS[other]}> SMTPUTF8").startswith("550 5.7.1 ")
            assert client.say(f"MAIL FROM:<{address}> SMTPUTF8").startswith("250 ")
            assert client.say(f"RCPT TO:<{YOU}>").startswith("250 ")
            client.say("DATA")
            client.send(f"From: {address}\r\n\r\nHello\r\n.\r\n".encode())
            assert client.reply().startswith("250 ")
        assert f"From: {address}\r\n" in upstream.messages[-1].decode()
        wait_until(partial(house.ask, "messages", "list", "--sender", address), "the history")
        (found,) = house.ask("messages", "list", "--sender", address)
        assert found["profile"] == name
