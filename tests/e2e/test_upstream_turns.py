"""How often a message waits for its server, and that real servers take what leaves in groups and in chunks."""

import pytest

from relay.directory.model import Account, Auth, Security, Server
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.secrets.secret import Secret
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Timeouts, Transfer
from tests.peers.canaries import RIGHT
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates, StartRelay
from tests.peers.postfix import Postfix
from tests.peers.raw import RawClient
from tests.peers.recorder import recorder_server
from tests.peers.relay import one_channel, open_server
from tests.peers.sink import Sink

EHLO = b"250-recorder.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n"
MESSAGE = b"From: support@acmejets.example\r\nSubject: hello\r\n\r\n%s\r\n" % (b"2 KB of text\r\n" * 150)
BODY = b"..two dots\r\n.\r\n" + "wörds\r\n".encode() + b"x" * 990 + b"\r\n" + b". and a dot\r\n" * 15_000


def test_a_message_on_a_kept_connection_takes_two_turns_at_its_server(start_relay: StartRelay) -> None:
    """The commands and the message; each of them leaves in one go. So does a message by BDAT."""
    with recorder_server({"EHLO": EHLO}) as recorder:
        relay = start_relay(one_channel(open_server(recorder.port)), {"delivery": {"mode": "auto"}})

        def send(count: int) -> list[bytes]:
            with RawClient(relay.endpoint) as client:
                for _ in range(count):
                    answer = client.submit("support@acmejets.example", "jo@customer.example", MESSAGE)
                    assert answer.startswith("250 2.0.0 Ok: delivered"), answer
            turns = recorder.conversations[0].turns
            assert len(recorder.conversations) == 1
            new, turns[:] = list(turns), []
            return new

        turns = send(5)
        assert turns.pop(0).startswith(b"EHLO ")
        assert len(turns) == 2 * 5
        assert [[line[:4] for line in turn.splitlines()] for turn in turns[::2]] == [[b"MAIL", b"RCPT", b"DATA"]] * 5
        assert all(turn.endswith(b"text\r\n\r\n.\r\n") for turn in turns[1::2])

        done = relay.command("server", "set", "acmejets", "chunking=true")
        assert done.status == 0, done.text
        turns = send(2)
        assert [[line[:4] for line in turn.splitlines()] for turn in turns[::2]] == [[b"MAIL", b"RCPT"]] * 2
        assert all(turn.startswith(b"BDAT ") and turn.endswith(b"text\r\n\r\n") for turn in turns[1::2])
        assert len(recorder.messages) == 7


@pytest.mark.needs("postfix", "dovecot", "submission", "root")
@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
async def test_postfix_takes_it(chunking: bool, postfix: Postfix, sink: Sink) -> None:
    server = Server(
        name="postfix",
        host=postfix.host,
        port=postfix.port,
        security=Security.NONE,
        auth=Auth.NONE,
        chunking=chunking,
    )
    await check(server, None, sink, f"postfix-{chunking}".lower())


@pytest.mark.needs("dovecot", "submission")
@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
async def test_dovecot_takes_it(chunking: bool, dovecot: Dovecot, certificates: Certificates, sink: Sink) -> None:
    dovecot.add_users({"turns@upstream.example": RIGHT})
    server = Server(
        name="dovecot",
        host=dovecot.host,
        port=dovecot.starttls_port,
        username="turns@upstream.example",
        ca_file=str(certificates.ca_file),
        chunking=chunking,
    )
    await check(server, Secret(RIGHT, "1"), sink, f"dovecot-{chunking}".lower())


async def check(server: Server, secret: Secret | None, sink: Sink, name: str) -> None:
    """Send a large message to many and a small one, and see both arrive octet by octet."""
    way_out = Upstream("relay.example", Timeouts(connect=10, reply=20, final=20))
    contents = {
        name: Content(b"From: turns@upstream.example\r\nSubject: turns\r\n", (BODY,)),
        f"{name}-small": Content(b"Subject: turns\r\n", (b".\r\n",)),
    }
    for first, content in contents.items():
        recipients = [f"{first}@peers.example", *(f"{first}.{number}@peers.example" for number in range(120))]
        outcome = await way_out.deliver(
            Transfer(
                server=server,
                account=Account(server.name, server.username),
                secret=secret,
                sender=Address.parse("turns@upstream.example"),
                recipients=tuple(Recipient(Address.parse(each)) for each in recipients),
                content=content,
            )
        )
        assert outcome.accepted, outcome
        assert outcome.refused == {}
    assert way_out.connections() == {Account(server.name, server.username): 1}
    await way_out.aclose()
    for first, content in contents.items():
        assert sink.wait_for(f"{first}@peers.example").body == b"".join(content.body)
        assert sink.wait_for(f"{first}.119@peers.example")
