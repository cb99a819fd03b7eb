"""Four mail clients, three mechanisms, two kinds of TLS, three ways to send: the account, the envelope and the From
that a real Dovecot and the station behind it see are those of the table in the README."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.peers.canaries import canary
from tests.peers.clients import CLIENTS, Letter
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates
from tests.peers.relay import Relay, relay_process
from tests.peers.rows import each_row
from tests.peers.sink import Sink

pytestmark = pytest.mark.needs("swaks", "curl", "msmtp", "dovecot", "submission")

METHODS = ("plain", "login", "cram-md5")
SECURITIES = ("starttls", "tls")
WAYS = ("internal", "custom", "override")
BODY = b".one dot\n..two dots\n\nsch\xc3\xb6n  \n" + b"long " * 180 + b"\nFrom here\nend\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One way to send through one kind of server, and what has to come out of it."""

    method: str
    security: str
    way: str

    @property
    def name(self) -> str:
        return f"{self.way}-{self.method}-{self.security}"

    @property
    def address(self) -> str:
        """What the client sends as."""
        return f"{self.name}@acmejets.example"

    @property
    def account(self) -> str:
        """Whom the relay has to log in as."""
        return f"account.{self.name}@upstream.example"

    @property
    def identity(self) -> str:
        """What envelope and From have to bear. An internal server here has an address that is not its account's."""
        return {
            "internal": f"noreply.{self.name}@house.example",
            "custom": self.account,
            "override": self.address,
        }[self.way]

    def server(self, dovecot: Dovecot, ca_file: str) -> Mapping[str, Any]:
        """Its entry in [servers]."""
        port = dovecot.tls_port if self.security == "tls" else dovecot.starttls_port
        server = {
            "host": dovecot.host,
            "port": port,
            "security": self.security,
            "auth": self.method,
            "username": self.account if self.way != "override" else f"nobody.{self.name}@upstream.example",
            "ca_file": ca_file,
        }
        if self.way == "internal":
            return {**server, "internal": True, "address": self.identity}
        return server

    def channel(self) -> Mapping[str, Any]:
        """Its entry in [channels]."""
        channel = {"address": self.address, "server": self.name}
        if self.way == "override":
            return {**channel, "override": True, "username": self.account}
        return channel


CASES = [Case(method, security, way) for method in METHODS for security in SECURITIES for way in WAYS]


@pytest.fixture(scope="module")
def relay(dovecot: Dovecot, certificates: Certificates) -> Iterator[Relay]:
    """One relay with a server and a channel for each case; the passwords go in while it runs."""
    dovecot.add_users({case.account: _password(case) for case in CASES})
    directory = {
        "default_server": CASES[0].name,
        "servers": {case.name: case.server(dovecot, str(certificates.ca_file)) for case in CASES},
        "channels": {case.name: case.channel() for case in CASES},
    }
    with relay_process(directory) as relay:

        def set_password(case: Case) -> None:
            relay.set_password("channel" if case.way == "override" else "server", case.name, _password(case))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(set_password, CASES))
        yield relay


@pytest.mark.parametrize("client", CLIENTS)
@each_row("case", CASES, ids=lambda case: case.name)
def test_account_envelope_and_from_are_one(client: str, case: Case, relay: Relay, dovecot: Dovecot, sink: Sink) -> None:
    recipient = f"{client}.{case.name}@customer.example"
    header = f'From: "Jane, Support" <{case.address}>\nTo: {recipient}\nSubject: hello\nX-Kept: folded\n value\n'
    done = CLIENTS[client](relay.endpoint, Letter(case.address, (recipient,), header.encode() + b"\n" + BODY))
    assert done.status == 0, done.text + relay.last_words

    arrived = sink.wait_for(recipient)
    assert arrived.login == case.account
    assert arrived.sender == case.identity
    assert arrived.recipients == (recipient,)
    (sender,) = arrived.header.get_all("From", [])
    assert sender.addresses[0].addr_spec == case.identity
    assert sender.addresses[0].display_name == "Jane, Support"
    assert arrived.header["Reply-To"] == (None if case.way == "override" else case.address)
    assert arrived.header["Sender"] is None
    assert b"\r\nX-Kept: folded\r\n value\r\n" in arrived.content
    assert arrived.body == BODY.replace(b"\n", b"\r\n")

    logins = {(login.method, login.port, login.is_tls) for login in dovecot.wait_for_login(case.account)}
    port = dovecot.tls_port if case.security == "tls" else dovecot.starttls_port
    assert logins == {(case.method.upper(), port, True)}


def test_no_password_is_in_the_log_or_in_any_file(relay: Relay) -> None:
    relay.check_leaks()


def _password(case: Case) -> str:
    return canary(case.name)
