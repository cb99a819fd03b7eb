"""Control characters and what decodes to them, in every place where a client can put a text of its own."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from email import message_from_bytes, policy
from typing import Any

import pytest

from tests.dialogs.listener.listener_kit import RCPT, TEXT, FakeLogins, Handed, door
from tests.hostile.house import JANE, house
from tests.peers.recorder import REPLIES, Recorder, recorder_server
from tests.peers.relay import Relay
from tests.peers.rows import each_row
from tests.peers.told import capture_logs

CONTROLS = [bytes([code]) for code in (*range(0x20), 0x7F)]
# Each place for an octet: what the client says, with {} for it.
PLACES = {
    "EHLO": b"EHLO cli{}ent.example",
    "HELO": b"HELO cli{}ent.example",
    "verb": b"NO{}OP",
    "sender": b"MAIL FROM:<a{}b@acmejets.example>",
    "sender in quotes": b'MAIL FROM:<"a{}b"@acmejets.example>',
    "sender behind a backslash": b'MAIL FROM:<"a\\{}b"@acmejets.example>',
    "sender's domain": b"MAIL FROM:<a@acme{}jets.example>",
    "sender's literal": b"MAIL FROM:<a@[127.0.0.1{}]>",
    "source route": b"MAIL FROM:<@r{}.example:a@acmejets.example>",
    "SIZE": b"MAIL FROM:<a@acmejets.example> SIZE=1{}2",
    "BODY": b"MAIL FROM:<a@acmejets.example> BODY=8BIT{}MIME",
    "SMTPUTF8": b"MAIL FROM:<a@acmejets.example> SMTP{}UTF8",
    "RET": b"MAIL FROM:<a@acmejets.example> RET=FU{}LL",
    "ENVID": b"MAIL FROM:<a@acmejets.example> ENVID=a{}b",
    "AUTH=": b"MAIL FROM:<a@acmejets.example> AUTH=a{}b@acmejets.example",
    "an unknown parameter": b"MAIL FROM:<a@acmejets.example> X-Y=a{}b",
    "recipient": b"RCPT TO:<a{}b@customer.example>",
    "recipient in quotes": b'RCPT TO:<"a{}b"@customer.example>',
    "recipient's domain": b"RCPT TO:<a@cust{}omer.example>",
    "NOTIFY": b"RCPT TO:<a@customer.example> NOTIFY=NEV{}ER",
    "ORCPT": b"RCPT TO:<a@customer.example> ORCPT=rfc822;a{}b",
    "ORCPT's type": b"RCPT TO:<a@customer.example> ORCPT=rfc{}822;ab",
    "mechanism": b"AUTH PL{}AIN AAAA",
    "initial response": b"AUTH PLAIN AA{}AA",
}
# The same as xtext (RFC 3461 section 4), which is decoded for the report.
ENCODED_PLACES = {
    "ENVID": b"MAIL FROM:<a@acmejets.example> ENVID=a+%02Xb",
    "AUTH=": b"MAIL FROM:<a@acmejets.example> AUTH=a+%02Xb@acmejets.example",
    "ORCPT": b"RCPT TO:<a@customer.example> ORCPT=rfc822;a+%02Xb",
    "ORCPT in UTF-8": b"RCPT TO:<a@customer.example> ORCPT=utf-8;a\\x{%02X}b",
}
# And within base64, where names are.
LOGIN_PLACES = {
    "PLAIN": ("AUTH PLAIN {}", "\0sup{}port\0right"),
    "PLAIN identity": ("AUTH PLAIN {}", "sup{}port\0sup{}port\0right"),
    "PLAIN password": ("AUTH PLAIN {}", "\0support\0ri{}ght"),
    "LOGIN": ("AUTH LOGIN {}\r\ncmlnaHQ=", "sup{}port"),
    "SCRAM name": ("AUTH SCRAM-SHA-256 {}\r\n*", "n,,n=sup{}port,r=nonce"),
    "SCRAM nonce": ("AUTH SCRAM-SHA-256 {}\r\n*", "n,,n=support,r=no{}nce"),
    "SCRAM identity": ("AUTH SCRAM-SHA-256 {}\r\n*", "n,a=sup{}port,n=support,r=nonce"),
}
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029]")


def sayings(place: str) -> Iterator[bytes]:
    """What is said there, once for each control character."""
    for control in CONTROLS:
        if place in PLACES:
            yield PLACES[place].replace(b"{}", control)
        elif place.startswith("xtext "):
            yield ENCODED_PLACES[place.removeprefix("xtext ")] % control[0]
        else:
            command, response = LOGIN_PLACES[place.removeprefix("base64 ")]
            text = response.replace("{}", control.decode())
            yield command.format(b64encode(text.encode()).decode()).encode()


ALL_PLACES = [*PLACES, *(f"xtext {name}" for name in ENCODED_PLACES), *(f"base64 {name}" for name in LOGIN_PLACES)]


@each_row("place", ALL_PLACES)
async def test_no_control_character_passes_from_any_place(place: str) -> None:
    """Whether it is refused or not: nothing that goes on holds one, and neither do replies and log."""
    mail = b"MAIL FROM:<support@acmejets.example>\r\n"
    logins = FakeLogins({"support": "right"})
    with capture_logs() as lines:
        async with door(logins=logins) as relay:
            for said in sayings(place):
                before = mail if said.startswith(b"RCPT") else b""
                after = b"" if said.startswith(b"MAIL") else mail
                async with relay.client() as client:
                    await client.send(b"EHLO client.example\r\n", before, said, b"\r\n", after, RCPT)
                    await client.send(b"DATA\r\n", TEXT, b".\r\nQUIT\r\n")
                    heard = await client.until_closed()
                assert not re.search(rb"[^\x20-\x7e\r\n]|\r(?!\n)|(?<!\r)\n", heard), (said, heard)
    for handed in relay.acceptance.messages:
        assert not _CONTROL.search(text_of(handed)), handed
    assert not [line for line in lines if _CONTROL.search("".join(map(str, line.values())))]
    assert not [line for line in lines if line["log_level"] != "info"]
    assert not [name for name in logins.checked if _CONTROL.search(name)]


def text_of(handed: Handed) -> str:
    """Everything that a client wrote into the envelope and the arrival."""
    envelope, arrival = handed.envelope, handed.arrival
    said: list[Any] = [envelope.sender, envelope.envid, arrival.helo, arrival.login, handed.client.name]
    for recipient in envelope.recipients:
        original = recipient.original
        said += [recipient.address, *((original.address, original.parameter) if original else ())]
    return "".join(map(str, said))


WITH_DSN = {"EHLO": REPLIES["EHLO"].replace(b"250-8BITMIME", b"250-8BITMIME\r\n250-DSN")}
# What becomes CR LF, another address or another header field where somebody decodes too much.
TRICKS = {
    "helo with an escape": (b"EHLO a\xc2\x9b31m(b)\r\n", JANE, "you@customer.example", ""),
    "helo with a comment": (b"EHLO a);(from\r\n", JANE, "you@customer.example", ""),
    "encoded line end in the recipient": (b"EHLO a\r\n", JANE, '"=?utf-8?q?a=0d=0aX-Inj:1?="@customer.example', ""),
    "encoded bracket in the recipient": (
        b"EHLO a\r\n",
        JANE,
        '"=?utf-8?q?boss=40corp=2Eexample=3E?="@customer.example',
        "",
    ),
    "a bracket in quotes": (b"EHLO a\r\n", JANE, '"a>b"@customer.example', ""),
    "a command in quotes": (b"EHLO a\r\n", JANE, '"a> NOTIFY=NEVER <b"@customer.example', ""),
    "an encoded plus in ORCPT": (b"EHLO a\r\n", JANE, "you@customer.example", " ORCPT=rfc822;a+2B0D+2B0Ab"),
    "commas and comments in quotes": (b"EHLO a\r\n", JANE, '"a,b(c);:d"@customer.example', " NOTIFY=FAILURE"),
}


@pytest.fixture(scope="module")
def wire() -> Iterator[Recorder]:
    with recorder_server(WITH_DSN) as recorder:
        yield recorder


@pytest.fixture(scope="module")
def relay(wire: Recorder) -> Iterator[Relay]:
    with house(wire.port) as relay:
        yield relay


@pytest.mark.parametrize("trick", TRICKS)
def test_what_leaves_holds_the_texts_as_they_were_written_and_nothing_else(
    trick: str, relay: Relay, wire: Recorder
) -> None:
    hello, sender, recipient, words = TRICKS[trick]
    count = len(wire.messages)
    with relay.connect() as client:
        client.send(hello)
        assert client.reply().startswith("250")
        assert client.say(f"MAIL FROM:<{sender}> ENVID=a+2B0D+2B0Ab").startswith("250 ")
        assert client.say(f"RCPT TO:<{recipient}>{words}").startswith("250 ")
        client.say("DATA")
        assert client.say(f"From: {sender}\r\nSubject: x\r\n\r\nhello\r\n.").startswith("250 ")
    (message,) = wire.messages[count:]
    (talk,) = (talk for talk in wire.conversations if talk.messages and talk.messages[-1] is message)
    assert not [command for command in talk.commands if not re.fullmatch("[ -~]*", command)]
    assert talk.commands[-3:-1] == [
        f"MAIL FROM:<{sender}> ENVID=a+2B0D+2B0Ab",
        f"RCPT TO:<{recipient}>{words}",
    ]
    parsed = message_from_bytes(message, policy=policy.compat32)
    assert [name.lower() for name in parsed] == ["received", "from", "subject", "date", "message-id"]
    assert re.fullmatch(rb"(?:[ -~\t]*\r\n)*", message)


def test_every_line_of_the_log_is_one_record(relay: Relay) -> None:
    """Runs behind the others, so that their tricks are in it."""
    with relay.connect() as client:
        for line in (
            b"EHLO \x1b[31m",
            b"MAIL FROM:<\x1b[2J@acmejets.example>",
            "MAIL FROM:<a\u2028b@x.example>".encode(),
        ):
            client.send(line + b"\r\n")
            client.reply()
    for written in relay.log.splitlines():
        record = json.loads(written)
        assert record["event"]
        assert not _CONTROL.search(written)
        assert not [text for text in record.values() if isinstance(text, str) and _CONTROL.search(text)]
