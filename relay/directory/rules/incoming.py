"""What must hold for a mailbox that is read (`incoming`)."""

from collections.abc import Iterator
from typing import TypeAlias

from relay.directory.model import Incoming, Server
from relay.directory.reading import Reading
from relay.directory.rules.servers import host_faults, is_loopback
from relay.mail.structured_fields import CONTROL

Findings: TypeAlias = Iterator[tuple[str, str]]

_SOURCES = ("file:", "env:", "credential:", "command:")


def incoming_faults(reading: Reading) -> Findings:
    """Yield (key, sentence) for everything that is wrong with a mailbox. The value of a secret is not shown."""
    directory = reading.directory
    for server in directory.servers.values():
        if server.incoming is not None:
            yield from _faults(f"servers.{server.name}.incoming", server.incoming)
            yield from _username(f"servers.{server.name}.incoming", server, server.incoming)
    for profile in directory.profiles():
        if profile.incoming is not None:
            yield from _faults(f"{profile.kind}s.{profile.name}.incoming", profile.incoming)


def _faults(place: str, incoming: Incoming) -> Findings:
    for key, message in host_faults(incoming.host):
        yield f"{place}.{key}", message
    if incoming.security == "none" and not is_loopback(incoming.host):
        danger = "the password would go unprotected over the network"
        yield f"{place}.security", f'{danger}; set security = "tls" or "starttls"'
    if incoming.password_from and not incoming.password_from.startswith(_SOURCES):
        yield f"{place}.password_from", "it names no source; begin it with file:, env:, credential: or command:"
    if incoming.password_from and incoming.password:
        yield f"{place}.password", "password_from gives the password already; keep one of the two"
    if CONTROL.search(incoming.username):
        yield f"{place}.username", "a user name holds no control characters; write it on one line"


def _username(place: str, server: Server, incoming: Incoming) -> Findings:
    if not (incoming.username or server.username or server.address):
        yield f"{place}.username", 'the server has no username to take; add username = "…"'
