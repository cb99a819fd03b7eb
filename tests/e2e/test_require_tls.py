"""REQUIRETLS (RFC 8689) through the whole relay: promised on, or refused, and what a report of it gives away."""

import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from tests.peers.fixtures import Certificates, StartRelay
from tests.peers.recorder import REPLIES, Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import LOOPBACK, free_port, wait_until

SENDER = "support@acmejets.example"
CONTENT = b"Subject: hello\r\nTLS-Required: No\r\n\r\nthe body\r\n"
OFFERING = {"EHLO": REPLIES["EHLO"].replace(b"250-8BITMIME", b"250-8BITMIME\r\n250-REQUIRETLS")}
REFUSAL = "550 5.7.30 REQUIRETLS is not supported by the outgoing mail server"


@pytest.fixture
def certificate(certificates: Certificates, tmp_path: Path) -> Path:
    """Key and certificate in one file, for both sides of the relay."""
    path = tmp_path / "certificate.pem"
    path.write_bytes(certificates.server)
    path.chmod(0o600)
    return path


@contextmanager
def upstream(certificate: Path, replies: Mapping[str, bytes]) -> Iterator[Recorder]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with recorder_server(replies, tls=context) as recorder:
        yield recorder


def started(
    start_relay: StartRelay, recorder: Recorder, certificates: Certificates, certificate: Path, mode: str
) -> tuple[Relay, int]:
    """A relay with a second listener in TLS, and the port of that."""
    server = open_server(recorder.port, security="tls", ca_file=str(certificates.ca_file))
    port, plain = free_port(), free_port()
    settings: dict[str, Any] = {
        "delivery": {"mode": mode},
        "tls": {"certificate": str(certificate), "key": str(certificate)},
        "listener": [
            {"name": "plain", "address": f"{LOOPBACK}:{plain}"},
            {"name": "tls", "address": f"{LOOPBACK}:{port}", "security": "tls"},
        ],
    }
    relay = start_relay(one_channel(server), settings, starts=False)
    relay.port = plain
    relay.start()
    return relay, port


def submit(port: int, certificates: Certificates) -> str:
    """Send a message that requires TLS and wants to come back whole; return the last reply."""
    context = ssl.create_default_context(cafile=str(certificates.ca_file))
    with smtplib.SMTP_SSL(LOOPBACK, port, context=context, timeout=20) as client:
        client.ehlo("client.test")
        assert client.has_extn("requiretls")
        assert client.mail(SENDER, ["REQUIRETLS", "RET=FULL"])[0] == 250
        assert client.rcpt("you@customer.example")[0] == 250
        code, words = client.data(CONTENT)
        return f"{code} {words.decode()}"


def mails(recorder: Recorder) -> list[str]:
    return [line for talk in recorder.conversations for line in talk.commands if line.startswith("MAIL ")]


@pytest.mark.parametrize("mode", ["auto", "queued"])
def test_a_server_that_offers_it_is_told(
    mode: str, start_relay: StartRelay, certificates: Certificates, certificate: Path
) -> None:
    """Also where the header asks for the opposite: the option counts (RFC 8689 section 4.1)."""
    with upstream(certificate, OFFERING) as recorder:
        _, port = started(start_relay, recorder, certificates, certificate, mode)
        assert submit(port, certificates).startswith("250 2.0.0 Ok: ")
        wait_until(lambda: recorder.messages, "the message")
        assert mails(recorder) == [f"MAIL FROM:<{SENDER}> REQUIRETLS"]
        assert b"\r\nTLS-Required: No\r\n" in recorder.messages[0]


def test_a_server_that_does_not_offer_it_gets_nothing_and_the_client_is_told(
    start_relay: StartRelay, certificates: Certificates, certificate: Path
) -> None:
    with upstream(certificate, {}) as recorder:
        relay, port = started(start_relay, recorder, certificates, certificate, "auto")
        assert submit(port, certificates) == REFUSAL
        assert mails(recorder) == []
        assert relay.ask("queue", "list") == []


def test_a_queued_message_is_reported_by_its_header_alone(
    start_relay: StartRelay, certificates: Certificates, certificate: Path
) -> None:
    """The bounce is not lost because this server promises nothing; it shows no more than it must (section 5)."""
    with upstream(certificate, {}) as recorder:
        relay, port = started(start_relay, recorder, certificates, certificate, "queued")
        assert submit(port, certificates).startswith("250 2.0.0 Ok: queued as ")
        wait_until(lambda: recorder.messages, "the report")
        assert mails(recorder) == ["MAIL FROM:<>"]
        report = message_from_bytes(recorder.messages[0])
        assert report["To"] == SENDER
        assert REFUSAL in " ".join(str(report.get_payload(1)).split())
        assert b"the body" not in recorder.messages[0]
        wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
        assert len(recorder.messages) == 1


def test_the_report_requires_it_where_the_way_back_offers_it(
    start_relay: StartRelay, certificates: Certificates, certificate: Path
) -> None:
    refusing = {**OFFERING, "RCPT TO:<you@customer.example>": b"550 5.1.1 No such user\r\n"}
    with upstream(certificate, refusing) as recorder:
        _, port = started(start_relay, recorder, certificates, certificate, "queued")
        submit(port, certificates)
        wait_until(lambda: recorder.messages, "the report")
        assert mails(recorder) == [f"MAIL FROM:<{SENDER}> REQUIRETLS", "MAIL FROM:<> REQUIRETLS"]
