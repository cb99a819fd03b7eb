"""Mail servers that send everything by the relay: what comes back to them as undeliverable reaches who had sent it."""

import smtplib
from collections.abc import Iterator

import pytest

from tests.peers.downstream import SERVERS, documented, downstream
from tests.peers.postfix import postfix_instance
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import private_folder, wait_until

SUPPORT = "support@acmejets.example"
GONE = "gone@customer.example"
NO_SUCH = b"550 5.1.1 no such user here\r\n"


@pytest.fixture
def upstream() -> Iterator[Recorder]:
    with recorder_server({f"RCPT TO:<{GONE}>": NO_SUCH}) as recorder:
        yield recorder


@pytest.fixture
def relay(upstream: Recorder) -> Iterator[Relay]:
    with relay_process(one_channel(open_server(upstream.port))) as relay:
        yield relay


def bounce(upstream: Recorder) -> str:
    """Return the header of the one message that left, from the null sender to who had sent what came back."""
    wait_until(lambda: upstream.messages, "the bounce")
    (message,) = upstream.messages
    commands = [line for one in upstream.conversations for line in one.commands]
    assert [line for line in commands if line.startswith("MAIL FROM:<>")]
    assert [line.partition(" NOTIFY=")[0] for line in commands if line.startswith("RCPT")][-1] == f"RCPT TO:<{SUPPORT}>"
    assert GONE.encode() in message
    return message.partition(b"\r\n\r\n")[0].decode()


@pytest.mark.needs("postfix", "postconf", "root")
def test_a_bounce_of_postfix_reaches_the_sender(relay: Relay, upstream: Recorder) -> None:
    with private_folder("postfix") as folder, postfix_instance(folder, documented("Postfix", relay.port)) as postfix:
        with smtplib.SMTP(postfix.host, postfix.port) as client:
            client.sendmail(SUPPORT, GONE, f"From: {SUPPORT}\nSubject: hello\n\nhello\n")
        header = bounce(upstream)
    assert f"\nFrom: Mail Delivery System <{SUPPORT}>" in header.replace("\r", "").replace('"', "")


@pytest.mark.slow
@pytest.mark.needs(
    "root", "unshare", "dpkg", "adduser", "setpriv", *(deb for debs, _ in SERVERS.values() for deb in debs)
)
@pytest.mark.parametrize("name", SERVERS)
def test_a_bounce_of_another_mail_server_reaches_the_sender(name: str, relay: Relay, upstream: Recorder) -> None:
    with downstream(name, relay.port, SUPPORT, GONE) as said:
        try:
            header = bounce(upstream)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{relay.log[-2000:]}\n{said.read_text()[-2000:]}") from None
    (author,) = [line for line in header.split("\r\n") if line.lower().startswith("from:")]
    assert author.endswith((f" {SUPPORT}", f" <{SUPPORT}>"))
