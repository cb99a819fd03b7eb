"""What must hold for a server and those who send through it: where it is, as whom we log in, what mail leaves with."""

import ipaddress
from collections.abc import Iterator
from typing import TypeAlias

from relay.config.endpoint import is_host_name
from relay.directory.model import Auth, Directory, Profile, Security, Server
from relay.directory.reading import Reading
from relay.mail.address import Address, AddressError, domain_key

Findings: TypeAlias = Iterator[tuple[str, str]]

# They send the password so that whoever reads the connection has it. AUTO may choose one of them.
_PLAINTEXT = frozenset({Auth.PLAIN, Auth.LOGIN, Auth.AUTO})


def server_faults(reading: Reading) -> Findings:
    """Yield (key, sentence) for everything that is wrong with a server."""
    senders = _senders(reading.directory)
    for server in reading.directory.servers.values():
        for rule in (_host, _address, _login, _plaintext):
            for key, message in rule(server):
                yield f"servers.{server.name}.{key}", message
        sender = senders.get(server.name)
        if sender is not None:
            for key, message in needs_of(server, f"{sender.kind} '{sender.name}'"):
                yield f"servers.{server.name}.{key}", message


def needs_of(server: Server, sender: str) -> Findings:
    """Yield (key, sentence) for what a server lacks for mail that leaves with its own account and address."""
    if server.identity is None and not (server.address or server.username):
        yield "address", f'{sender} sends with this server\'s address, and it has none; add address = "…"'
    elif server.identity is None and not server.address:
        yield "address", f'{sender} sends with this server\'s address, and its username is none; add address = "…"'
    if server.auth is not Auth.NONE and not server.username:
        yield "username", f'{sender} sends with this server\'s account; add username = "…", or auth = "none"'


def unnamed_servers(directory: Directory) -> Findings:
    """Yield a warning for each profile with an account of its own that leaves out at which server that is."""
    for profile in directory.profiles():
        if profile.override and profile.server is None and directory.default_server:
            message = (
                "it logs in with its own account, and the server is left out: with another default its password would "
                f'be for the wrong one, and its mail would stop; write server = "{directory.default_server}"'
            )
            yield f"{profile.kind}s.{profile.name}.server", message


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, so that nobody else reads what is said to it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _host(server: Server) -> Findings:
    return host_faults(server.host)


def _senders(directory: Directory) -> dict[str, Profile]:
    """Return for each server the first profile that sends with the server's own account."""
    senders: dict[str, Profile] = {}
    for profile in directory.profiles():
        if not profile.override:
            senders.setdefault(profile.server or directory.default_server or "", profile)
    return senders


def host_faults(host: str) -> Findings:
    """Yield ("host", sentence) for what is neither a name nor an IP address."""
    if "://" in host:
        yield "host", "it is a URL; write the name alone, and the protection as security"
    elif host.startswith("["):
        yield "host", "write an IPv6 address without brackets"
    elif not _is_host(host):
        name, colon, port = host.partition(":")
        if colon and port.isdecimal() and is_host_name(name):
            yield "host", f'there is a port in it; write host = "{name}" and port = {port}'
        else:
            yield "host", f"{host!r} is no host; write a name or an IP address"


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return True
    try:
        return is_host_name(host) or (not host.isascii() and bool(domain_key(host)))
    except AddressError:
        return False


def _address(server: Server) -> Findings:
    try:
        Address.parse(server.address or "a@b")
    except AddressError as error:
        yield "address", str(error)


def _login(server: Server) -> Findings:
    if server.auth is Auth.NONE and server.username:
        yield "username", 'auth = "none" logs in as nobody; remove username, or choose another auth'


def _plaintext(server: Server) -> Findings:
    if server.security is not Security.NONE or is_loopback(server.host):
        return
    if server.auth is Auth.OAUTH2:
        yield "auth", 'an access token never goes unprotected over the network; set security = "starttls" or "tls"'
    elif server.auth in _PLAINTEXT and not server.allow_plaintext_password:
        danger = f"'{server.auth}' may send the password unprotected over the network"
        yield "auth", f'{danger}; set security = "starttls" or "tls", or allow_plaintext_password = true'
