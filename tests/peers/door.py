"""A relay with every kind of listener: each encryption, once for everybody and once for those who log in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from tests.peers.canaries import canary
from tests.peers.clients import Access, Endpoint
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates
from tests.peers.relay import Relay, relay_process
from tests.peers.system import LOOPBACK, free_port, private_folder

SECURITIES = ("none", "starttls", "tls")
# Who may log in: a channel by its name, and an agent by the address.
SUPPORT = "support@acmejets.example"
JANE = "jane@acmejets.example"
# Loopback, and not in the certificate.
_OTHER_NAME = "127.0.0.2"


@dataclass(frozen=True, slots=True)
class Door:
    """The listeners of a running relay, and the authority of its certificate."""

    relay: Relay
    ports: dict[tuple[str, bool], int]
    ca_file: Path
    other_ca_file: Path

    def endpoint(self, security: str, *, needs_login: bool) -> Endpoint:
        """The listener with this encryption; in the certificate its host has this name."""
        return Endpoint("localhost", self.ports[security, needs_login])

    @property
    def misnamed(self) -> Endpoint:
        """A listener with TLS whose host is not in the certificate."""
        return Endpoint(_OTHER_NAME, self.ports["tls", False])

    def access(self, security: str, login: str = "", mechanism: str = "") -> Access:
        """How a client gets in, as one of those who may log in or as nobody."""
        return Access(security, self.ca_file, login, _LOGINS.get(login, ""), mechanism)


# Jane's is one that ASCII cannot say.
_LOGINS = {"support": canary("support at the door"), JANE: canary("schön € at the door")}


def account_of(name: str) -> str:
    """Whom the relay logs in as at Dovecot for a profile."""
    return f"{name}.door@upstream.example"


@contextmanager
def door_of(dovecot: Dovecot, certificates: Certificates) -> Iterator[Door]:
    """A relay that sends through Dovecot, each profile by its own account."""
    dovecot.add_users({account_of(name): canary(name) for name in ("support", "jane")})
    ports = {(security, needs_login): free_port() for security in SECURITIES for needs_login in (False, True)}
    with private_folder("door") as folder:
        certificate = folder / "certificate.pem"
        certificate.touch(mode=0o600)
        certificate.write_bytes(certificates.server)
        other_ca_file = folder / "other.pem"
        trustme.CA().cert_pem.write_to_path(str(other_ca_file))
        listeners = [_listener(LOOPBACK, port, *kind) for kind, port in ports.items()]
        listeners.append(_listener(_OTHER_NAME, ports["tls", False], "tls", False))
        settings = {"listener": listeners, "tls": {"certificate": str(certificate), "key": str(certificate)}}
        with relay_process(_directory(dovecot, certificates), settings, starts=False) as relay:
            relay.port = ports["none", False]
            _set_passwords(relay)
            relay.start()
            yield Door(relay, ports, certificates.ca_file, other_ca_file)


def _set_passwords(relay: Relay) -> None:
    for noun, name, login in (("channel", "support", "support"), ("agent", "jane", JANE)):
        relay.set_password(noun, name, canary(name))
        done = relay.command(noun, "password", name, "--login", "--password-stdin", data=_LOGINS[login] + "\n")
        assert done.status == 0, done.text


def _listener(host: str, port: int, security: str, needs_login: bool) -> dict[str, Any]:
    """A [[listener]]. Loopback is a trusted network: where no login is required, none is needed."""
    return {
        "name": f"{security}{'-login' if needs_login else ''}-{host}",
        "address": f"{host}:{port}",
        "security": security,
        "auth": "required" if needs_login else "optional",
    }


def _directory(dovecot: Dovecot, certificates: Certificates) -> dict[str, Any]:
    server = {
        "host": dovecot.host,
        "port": dovecot.tls_port,
        "security": "tls",
        "username": account_of("nobody"),
        "ca_file": str(certificates.ca_file),
    }
    return {
        "default_server": "acmejets",
        "servers": {"acmejets": server},
        "channels": {"support": {"address": SUPPORT, "override": True, "username": account_of("support")}},
        "agents": {"jane": {"address": JANE, "override": True, "username": account_of("jane")}},
    }
