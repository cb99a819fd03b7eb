"""Logging in at a real Dovecot by SCRAM-SHA-256 and with access tokens that it checks itself."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from relay.directory.model import Auth, Meaning, Security, Server
from relay.secrets.secret import Secret
from relay.upstream.connection import Connection
from relay.upstream.dial import Contexts
from relay.upstream.outcome import Failed
from relay.upstream.transaction import Timeouts
from tests.peers.canaries import RIGHT, WRONG
from tests.peers.clients import Letter, python_smtplib
from tests.peers.dovecot import Dovecot, dovecot_server
from tests.peers.fixtures import Certificates
from tests.peers.relay import Relay, relay_process
from tests.peers.sink import Sink
from tests.peers.system import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs("dovecot", "submission")]

USER = "scram+user=1@upstream.example"
JANE = "jane@upstream.example"
LETTER = b"From: support@acmejets.example\nTo: jo@customer.example\nSubject: hello\n\nhello\n"


@pytest.fixture(scope="module")
def bearer_dovecot(sink: Sink, certificates: Certificates) -> Iterator[Dovecot]:
    """A Dovecot that offers OAUTHBEARER and not XOAUTH2."""
    with dovecot_server(sink.port, certificates.server, ("plain", "oauthbearer")) as server:
        yield server


@pytest.fixture(scope="module")
def relay(dovecot: Dovecot, certificates: Certificates) -> Iterator[Relay]:
    dovecot.add_users({USER: RIGHT})
    server: dict[str, Any] = {
        "host": dovecot.host,
        "port": dovecot.starttls_port,
        "username": USER,
        "address": "support@acmejets.example",
        "ca_file": str(certificates.ca_file),
    }
    servers = {
        "auto": server,
        "scram": {**server, "auth": "scram-sha-256", "port": dovecot.tls_port, "security": "tls"},
        "wrong": {**server, "auth": "scram-sha-256"},
    }
    channels = {name: {"address": f"{name}@acmejets.example", "server": name} for name in servers}
    with relay_process({"default_server": "auto", "servers": servers, "channels": channels}) as running:
        for name in servers:
            running.set_password("server", name, WRONG if name == "wrong" else RIGHT)
        yield running


@pytest.mark.parametrize("server", ["auto", "scram"])
def test_mail_goes_out_after_a_login_by_scram(server: str, relay: Relay, dovecot: Dovecot, sink: Sink) -> None:
    recipient = f"scram-{server}@customer.example"
    done = python_smtplib(relay.endpoint, Letter(f"{server}@acmejets.example", (recipient,), LETTER))
    assert done.status == 0, done.text + relay.last_words
    assert sink.wait_for(recipient).login == USER
    port = dovecot.tls_port if server == "scram" else dovecot.starttls_port
    assert ("SCRAM-SHA-256", port) in {(login.method, login.port) for login in dovecot.wait_for_login(USER)}
    relay.check_leaks()


def test_a_wrong_password_is_refused_once_and_in_the_servers_words(relay: Relay, dovecot: Dovecot) -> None:
    before = dovecot.failed_logins(USER)
    done = relay.command("server", "test", "wrong", "--to", "jo@customer.example", "--no-send", "--json")
    result = json.loads(done.out)
    assert done.status == 1
    assert [step["step"] for step in result["steps"] if not step["ok"]] == ["login"]
    assert result["steps"][-1]["detail"].startswith("535 5.7.8")
    wait_until(lambda: dovecot.failed_logins(USER) > before, "the failed login, as Dovecot tells it")
    assert dovecot.failed_logins(USER) == before + 1


@pytest.mark.parametrize("offer", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
async def test_a_good_token_logs_in(
    offer: str, security: Security, dovecot: Dovecot, bearer_dovecot: Dovecot, certificates: Certificates
) -> None:
    peer = dovecot if offer == "XOAUTH2" else bearer_dovecot
    connection = connection_to(peer, security, certificates)
    await connection.open(JANE, Secret(peer.token(JANE), "v1"))
    await connection.close()
    port = peer.tls_port if security is Security.TLS else peer.starttls_port
    logins = peer.wait_for_login(JANE)
    assert (offer, port, True) in {(login.method, login.port, login.is_tls) for login in logins}


@pytest.mark.parametrize("offer", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("fault", ["expired", "forged", "another's", "none"])
async def test_a_bad_token_is_a_refused_login_with_the_servers_reason(
    offer: str, fault: str, dovecot: Dovecot, bearer_dovecot: Dovecot, certificates: Certificates
) -> None:
    peer = dovecot if offer == "XOAUTH2" else bearer_dovecot
    token = {
        "expired": peer.token(JANE, seconds=-30),
        "forged": peer.token(JANE, key=b"another key of thirty-two octets"),
        "another's": peer.token("jo@upstream.example"),
        "none": "abc",
    }[fault]
    connection = connection_to(peer, Security.STARTTLS, certificates)
    with pytest.raises(Failed) as caught:
        await connection.open(JANE, Secret(token, "v1"))
    await connection.close()
    failure = caught.value.failure
    assert (failure.reply.code, failure.meaning) == (535, Meaning.LOGIN_REFUSED)
    assert re.match(r"status (invalid_token|401|400)", failure.detail)
    assert token not in str(failure)


def connection_to(peer: Dovecot, security: Security, certificates: Certificates) -> Connection:
    port = peer.tls_port if security is Security.TLS else peer.starttls_port
    server = Server(
        name="acme",
        host=peer.host,
        port=port,
        security=security,
        auth=Auth.OAUTH2,
        username=JANE,
        ca_file=str(certificates.ca_file),
    )
    return Connection(server, hello="relay.example", timeouts=Timeouts(), contexts=Contexts())
