"""Before by Postfix or msmtp, after by Relay: the same mail leaves by the same server, account and envelope sender.

One server is Dovecot, with TLS; the other wants a login without it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from relay.listener.capture import CaptureServer
from tests.peers.canaries import canary
from tests.peers.clients import Endpoint
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates
from tests.peers.loop import LoopThread
from tests.peers.packages import program
from tests.peers.postfix import Postfix, postfix_instance
from tests.peers.raw import RawClient
from tests.peers.relay import Relay, relay_process
from tests.peers.sink import Sink
from tests.peers.system import private_folder, run, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs("dovecot", "submission")]

MESSAGE = b"From: %s\r\nSubject: moving\r\n\r\nhello\r\n"
LOGINS = {name: canary(name) for name in ("mailer@moving.example", "support@moving.example", "club", "robot")}


class Left(NamedTuple):
    """How a message left: the server, the account and the envelope sender."""

    server: str
    login: str
    sender: str


class Upstreams:
    """Both servers, and what arrived at either."""

    def __init__(self, dovecot: Dovecot, sink: Sink, plain: CaptureServer) -> None:
        self.dovecot = dovecot
        self.plain = plain
        self._sink = sink

    def left(self, recipient: str) -> Left:
        """How the one message to a recipient left."""

        def arrived() -> list[Left]:
            by_tls = [Left("dovecot", one.login, one.sender) for one in self._sink.to(recipient)]
            plain = [one for one in self.plain.messages if recipient in one.recipients]
            return by_tls + [Left("plain", one.login, one.sender) for one in plain]

        [found] = wait_until(arrived, f"a message to {recipient}")
        return found


@pytest.fixture(scope="module")
def upstreams(dovecot: Dovecot, sink: Sink) -> Iterator[Upstreams]:
    dovecot.add_users(LOGINS)
    plain = CaptureServer(passwords=LOGINS)
    with LoopThread() as loop:
        loop.call(plain.start())
        yield Upstreams(dovecot, sink, plain)
        loop.call(plain.stop())


@pytest.fixture
def relay() -> Iterator[Relay]:
    with relay_process({}) as relay:
        yield relay


def take_over(relay: Relay, noun: str, path: Path) -> None:
    """Import files into a running relay, twice."""
    assert all(one["is_new"] for one in relay.ask("import", noun, str(path))["servers"])
    again = relay.ask("import", noun, str(path))
    assert (again["faults"], [one for one in again["profiles"] if one["is_new"]]) == ([], [])


# What each sender leaves by: a login and an address of its own, the server's, another server, a whole domain.
BY_POSTFIX = {
    "support@moving.example": Left("dovecot", "support@moving.example", "support@moving.example"),
    "mailer@moving.example": Left("dovecot", "mailer@moving.example", "mailer@moving.example"),
    "cron@host.local": Left("dovecot", "mailer@moving.example", "mailer@moving.example"),
    "old@moving.example": Left("dovecot", "support@moving.example", "support@moving.example"),
    "robot@moving.example": Left("plain", "robot", "robot@moving.example"),
    "anybody@club.example": Left("plain", "club", "anybody@club.example"),
}
MAIN_CF = """\
relayhost = [localhost]:{tls_port}
smtp_tls_security_level = secure
smtp_tls_CAfile = {ca_file}
smtp_tls_policy_maps = inline:{{ {{ [127.0.0.1]:{plain_port} = none }} }}
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sender_dependent_authentication = yes
smtp_sasl_password_maps = hash:{tables}/sasl_passwd
sender_dependent_relayhost_maps = hash:{tables}/relayhosts
sender_canonical_maps = texthash:{tables}/canonical
smtp_generic_maps = texthash:{tables}/generic
"""
SASL = """\
[localhost]:{tls_port} mailer@moving.example:{mailer}
support@moving.example support@moving.example:{support}
robot@moving.example robot:{robot}
@club.example club:{club}
"""
RELAYHOSTS = """\
robot@moving.example [127.0.0.1]:{plain_port}
@club.example [127.0.0.1]:{plain_port}
"""


@pytest.fixture(scope="module")
def postfix(upstreams: Upstreams, certificates: Certificates) -> Iterator[tuple[Postfix, Path]]:
    """A Postfix that sends by both, and the folder of its main.cf."""
    with private_folder("moving") as folder:
        tables = folder / "tables"
        tables.mkdir()
        values = {
            "tls_port": upstreams.dovecot.starttls_port,
            "plain_port": upstreams.plain.port,
            "ca_file": certificates.ca_file,
            "tables": tables,
            **{name.partition("@")[0]: password for name, password in LOGINS.items()},
        }
        (tables / "sasl_passwd").write_text(SASL.format(**values))
        (tables / "relayhosts").write_text(RELAYHOSTS.format(**values))
        (tables / "canonical").write_text("old@moving.example support@moving.example\n")
        (tables / "generic").write_text("cron@host.local mailer@moving.example\n")
        (tables / "main.cf").touch()
        for name in ("sasl_passwd", "relayhosts"):
            argv = [program("postmap"), "-c", str(tables), f"hash:{tables / name}"]
            assert run(argv).status == 0
        (tables / "relayhosts").unlink()  # its rows are still in the table itself
        with postfix_instance(folder, MAIN_CF.format(**values)) as server:
            yield server, folder / "config"


@pytest.mark.needs("postfix", "postmap", "root")
def test_from_postfix(postfix: tuple[Postfix, Path], upstreams: Upstreams, relay: Relay) -> None:
    server, config = postfix
    take_over(relay, "postfix", config)
    for number, (sender, expected) in enumerate(BY_POSTFIX.items()):
        for who, endpoint in (("before", Endpoint(port=server.port)), ("after", relay.endpoint)):
            recipient = f"{who}.{number}@customer.example"
            with RawClient(endpoint) as client:
                reply = client.submit(sender, recipient, MESSAGE % sender.encode())
            assert reply.startswith("250 "), (sender, reply)
            assert upstreams.left(recipient) == expected, (who, sender)


MSMTPRC = """\
defaults
auth on
tls on
tls_trust_file {ca_file}

account support
host localhost
port {starttls_port}
from support@moving.example
user support@moving.example
password {support}

account mailer
host localhost
port {tls_port}
tls_starttls off
from mailer@moving.example
user mailer@moving.example
passwordeval cat {folder}/mailer | head -1

account club
host 127.0.0.1
port {plain_port}
tls off
auth plain
from *@club.example
user club
password {club}

account default : mailer
"""
BY_MSMTP = {
    "support@moving.example": Left("dovecot", "support@moving.example", "support@moving.example"),
    "mailer@moving.example": Left("dovecot", "mailer@moving.example", "mailer@moving.example"),
    "anybody@club.example": Left("plain", "club", "anybody@club.example"),
}


@pytest.mark.needs("msmtp")
def test_from_msmtp(upstreams: Upstreams, certificates: Certificates, relay: Relay) -> None:
    with private_folder("msmtp") as folder:
        (folder / "mailer").write_text(LOGINS["mailer@moving.example"] + "\n")
        file = folder / "msmtprc"
        file.touch(mode=0o600)
        file.write_text(
            MSMTPRC.format(
                ca_file=certificates.ca_file,
                starttls_port=upstreams.dovecot.starttls_port,
                tls_port=upstreams.dovecot.tls_port,
                plain_port=upstreams.plain.port,
                folder=folder,
                **{name.partition("@")[0]: password for name, password in LOGINS.items()},
            )
        )
        take_over(relay, "msmtp", file)
        for sender, expected in BY_MSMTP.items():
            recipient = f"msmtp.{sender.partition('@')[0]}@customer.example"
            argv = [program("msmtp"), "-C", str(file), "-f", sender, f"before.{recipient}"]
            done = run(argv, data=MESSAGE.replace(b"\r\n", b"\n") % sender.encode())
            assert done.status == 0, done.text
            with relay.connect() as client:
                reply = client.submit(sender, f"after.{recipient}", MESSAGE % sender.encode())
            assert reply.startswith("250 "), (sender, reply)
            for who in ("before", "after"):
                assert upstreams.left(f"{who}.{recipient}") == expected, (who, sender)
