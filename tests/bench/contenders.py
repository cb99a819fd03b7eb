"""Who is measured, each with an upstream of its own: nobody, Postfix, the two libraries alone, the least, and Relay."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.floor import FloorOrder
from tests.bench.lean import LeanOrder
from tests.bench.letter import DOMAIN, PASSWORD, sender
from tests.bench.loads import AUTO, CONNECTIONS, FLOOR, LEAN, NONE, POSTFIX, QUEUED, TWO, Upstream
from tests.bench.upstreams import ENVIRONMENT, Certificate, Running, ours, running_upstream
from tests.peers.packages import program
from tests.peers.postfix import postfix_instance
from tests.peers.relay import Relay, open_server
from tests.peers.system import LOOPBACK, free_port, private_folder, run, running, wait_for_port, wait_until

_LARGEST = 64 * 1024**2
# A relay that chooses the upstream, and the account there, by the sender.
_POSTFIX = """\
sender_dependent_relayhost_maps = texthash:{folder}/relayhosts
message_size_limit = {largest}
mailbox_size_limit = 0
"""
_POSTFIX_LOGINS = """\
smtp_sender_dependent_authentication = yes
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:{folder}/passwords
smtp_sasl_security_options = noanonymous
"""
_POSTFIX_TLS = """\
smtp_tls_security_level = encrypt
smtp_sasl_tls_security_options = noanonymous
smtp_tls_session_cache_database = btree:{folder}/data/smtp_scache
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """A relay under load: where it listens, the process from which its others descend (0: none), and its log."""

    name: str
    port: int
    pid: int
    upstream: Running
    log: Path
    sender: str = sender(0)  # whom smtp-source sends from


@contextmanager
def contender(name: str, kind: Upstream, certificate: Certificate) -> Iterator[Contender]:
    """Start one of RELAYS with an upstream of its own. Where nobody is between, the source talks to the upstream."""
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder(f"bench-{name}"))
        upstream = stack.enter_context(running_upstream(kind, certificate, folder))
        if name == NONE:
            yield Contender(name, upstream.port, 0, upstream, folder / "log")
        elif name == POSTFIX:
            yield stack.enter_context(_postfix(upstream))
        elif name == FLOOR:
            yield stack.enter_context(_floor(upstream, folder))
        elif name == LEAN:
            yield stack.enter_context(_lean(upstream, folder))
        else:
            assert name in {AUTO, QUEUED, TWO}, name
            mode, workers = (AUTO, 2) if name == TWO else (name, 1)
            relay = stack.enter_context(running_relay(directory(upstream), mode, workers))
            yield of_relay(name, relay, upstream)


def of_relay(name: str, relay: Relay, upstream: Running, from_: str = sender(0)) -> Contender:
    """Return a running relay of ours as a contender."""
    assert relay.process is not None
    return Contender(name, relay.port, relay.process.pid, upstream, relay.log_file, from_)


@contextmanager
def running_relay(entries: Mapping[str, Any], mode: str, workers: int = 1) -> Iterator[Relay]:
    """Relay with its ordinary settings, the pages and the log included. Passwords in `entries` go into the vault."""
    with ExitStack() as stack:
        relay = stack.enter_context(made_relay(entries, mode, workers))
        relay.start()
        wait_until(lambda: len(relay.ask("status")["workers"]) == workers, "all workers")
        yield relay


@contextmanager
def made_relay(entries: Mapping[str, Any], mode: str, workers: int = 1) -> Iterator[Relay]:
    """The same before its start."""
    web = f"{LOOPBACK}:{free_port()}"
    settings = {
        "workers": workers,
        "delivery": {"mode": mode},
        "log": {"format": "json", "level": "info"},
        "web": {"address": web, "public_url": f"http://{web}"},
    }
    with private_folder("bench-relay") as folder:
        folder.chmod(0o700)
        relay = Relay(folder, settings, entries)
        relay.starts_anew = True
        if any("password" in server for server in entries["servers"].values()):
            done = relay.command("secrets", "import")
            assert done.status == 0, done.text
        try:
            yield relay
        finally:
            if relay.process:
                relay.stop()


def directory(upstream: Running) -> dict[str, Any]:
    """Return a directory whose channels send as themselves, each by its own account where there are logins."""
    kind = upstream.kind
    login = {"auth": "plain", "username": f"mailer@{DOMAIN}", "password": PASSWORD} if kind.accounts else {}
    if kind.is_tls:
        login |= {"security": "starttls", "ca_file": str(upstream.ca_file)}
    password = {"password": PASSWORD} if kind.accounts else {}
    channels = {
        f"channel{number}": {"address": sender(number), "override": True, **password}
        for number in range(max(kind.accounts, 1))
    }
    return {**one_server(upstream.port, **login), "channels": channels}


def one_server(port: int, **keys: Any) -> dict[str, Any]:
    """Return a directory with a server and a script that all of its channels use."""
    server = open_server(port, max_connections=CONNECTIONS, **keys)
    headers = {"Organization": "Acme Jets", "X-Mailer": "contact center"}
    script = {"set_headers": headers, "remove_headers": ["X-Originating-IP"]}
    return {"default_server": "acmejets", "servers": {"acmejets": server}, "scripts": {"default": script}}


@contextmanager
def _postfix(upstream: Running) -> Iterator[Contender]:
    kind = upstream.kind
    with private_folder("bench-postfix") as folder:
        _write_relayhosts(folder, kind, upstream.port)
        (folder / "passwords").write_text("".join(f"{one} {one}:{PASSWORD}\n" for one in _senders(kind)))
        main = _POSTFIX + _POSTFIX_LOGINS * bool(kind.accounts) + _POSTFIX_TLS * kind.is_tls
        with postfix_instance(folder, main.format(folder=folder, largest=_LARGEST)) as server:
            yield Contender(POSTFIX, server.port, server.pid, upstream, server.log)


def postfix_to(postfix: Contender, port: int) -> None:
    """Tell a running Postfix of another port of its upstream; what it has goes there at once."""
    folder = postfix.log.parent
    _write_relayhosts(folder, postfix.upstream.kind, port)
    for command in ("reload", "flush"):
        run([program("postfix"), "-c", str(folder / "config"), command])


def _write_relayhosts(folder: Path, kind: Upstream, port: int) -> None:
    (folder / "relayhosts").write_text("".join(f"{one} [{LOOPBACK}]:{port}\n" for one in _senders(kind)))


def _senders(kind: Upstream) -> list[str]:
    return [sender(number) for number in range(max(kind.accounts, 1))]


@contextmanager
def _floor(upstream: Running, folder: Path) -> Iterator[Contender]:
    kind = upstream.kind
    ca_file = str(upstream.ca_file) if kind.is_tls else ""
    order = FloorOrder(free_port(), upstream.port, CONNECTIONS, bool(kind.accounts), ca_file)
    log = folder / "log"
    with running(ours("floor", order.text()), log, env=ENVIRONMENT) as process:
        wait_for_port(process, order.port, log)
        yield Contender(FLOOR, order.port, process.pid, upstream, log)


@contextmanager
def _lean(upstream: Running, folder: Path) -> Iterator[Contender]:
    order, log = LeanOrder(free_port(), upstream.port, CONNECTIONS, str(folder)), folder / "log"
    with running(ours("lean", order.text()), log, env=ENVIRONMENT) as process:
        wait_for_port(process, order.port, log)
        yield Contender(LEAN, order.port, process.pid, upstream, log)
