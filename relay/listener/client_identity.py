"""Who a client is before any login: by where it comes from, or by whom a proxy names, and the listener it came to.

SECURITY: whether somebody may send without a login is decided here, from the kernel's word on the connection (or that
of a proxy that the settings trust) and never from what the client says. Who comes from nowhere known is not trusted.
Whose PROXY header may be believed, `ClientRules` says; it is read in bounded time and memory.
"""

import asyncio
import ipaddress
import logging
import socket
from asyncio import BaseTransport
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from aiosmtpd.proxy_protocol import AF, PROTO, V2_CMD, ProxyData, get_proxy

from relay.config.settings import Listener
from relay.directory.client import Client
from relay.system.peer_credentials import peer_uid, user_name

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# How a client of a unix socket is called in Received.
UNIX_PEER = "unix"
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection comes from: an address, or a user (uid) of this machine; neither where nobody knows.

    `is_proxied`: a proxy says so, and what lies between the client and the proxy nobody knows. `is_local`: nobody else
    can listen to what this connection carries.
    """

    address: _Address | None = None
    uid: int | None = None
    is_proxied: bool = False
    is_local: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Once for an origin: each session asks for it, and the standard library looks through its networks.
        is_here = self.address is not None and self.address.is_loopback and not self.is_proxied
        object.__setattr__(self, "is_local", self.uid is not None or is_here)


class ClientRules:
    """One listener's rule for clients without a login."""

    def __init__(self, listener: Listener) -> None:
        self._networks = listener.trusted_networks
        self._may_send_as = listener.may_send_as
        self._users = listener.users
        self._bounces = listener.bounces
        self._needs_login = listener.auth == "required"
        self._takes_logins = listener.auth != "none"
        self._proxies = listener.proxy_networks if listener.proxy_protocol else ()
        # Nearly all connections come from a few places.
        self._clients = lru_cache(maxsize=1024)(self._find_client)

    def is_proxy(self, origin: Origin) -> bool:
        """Whether a PROXY header must come first on this connection. From anybody else none is read."""
        return bool(self._proxies) and _is_in(origin.address, self._proxies)

    def client_of(self, origin: Origin) -> Client:
        """Return the client behind a connection."""
        return self._clients(origin)

    def may_log_in(self, origin: Origin, *, is_tls: bool) -> bool:
        """Whether a password may travel on this connection."""
        return self._takes_logins and (is_tls or origin.is_local)

    def _find_client(self, origin: Origin) -> Client:
        if origin.uid is not None:
            may_send_as = _of_user(origin.uid, self._users) if self._users else self._may_send_as
            return self._client(user_name(origin.uid) or f"uid {origin.uid}", UNIX_PEER, may_send_as)
        name = str(origin.address) if origin.address else _UNKNOWN
        return self._client(name, name, self._may_send_as if _is_in(origin.address, self._networks) else None)

    def _client(self, name: str, peer: str, may_send_as: Sequence[str] | None) -> Client:
        is_trusted = may_send_as is not None
        return Client(
            name,
            peer,
            tuple(may_send_as or ()),
            is_trusted=is_trusted,
            needs_login=self._needs_login,
            bounces=self._bounces,
        )


def origin_of(transport: BaseTransport) -> Origin:
    """Return where the kernel says that a connection comes from."""
    peername = transport.get_extra_info("peername")
    if isinstance(peername, tuple) and peername:
        return _origin_at(peername[0])
    # The name of a unix socket's client is no tuple, and a client that was gone before it was asked for has none.
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        return Origin(uid=peer_uid(connection))
    return Origin()


@lru_cache(maxsize=1024)
def _origin_at(host: str) -> Origin:
    """Return where a client is that the kernel calls so. It may have a scope: fe80::1%eth0."""
    return Origin(canonical(ipaddress.ip_address(host.partition("%")[0])))


def canonical(address: _Address) -> _Address:
    """Return the IPv4 address of a client that a socket for both families calls ::ffff:192.0.2.1.

    RFC 4291 section 2.5.5.2.
    """
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_in(address: _Address | None, networks: Sequence[_Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def _of_user(uid: int, users: Mapping[str, Sequence[str]]) -> Sequence[str] | None:
    """Return what `users` lets a user send as, by name or number; None where it stands under neither.

    A user whose name is a number is known by the own number alone.
    """
    name = user_name(uid)
    keys = [key for key in (str(uid), "" if name.isdigit() else name) if key in users]
    return [allowed for key in keys for allowed in users[key]] if keys else None


class ProxyFault(Exception):
    """No header that can be believed. The message says what came instead, in a clause."""


def hush() -> None:
    """Keep aiosmtpd from telling of each bad header, too: we do, with the client's address."""
    logging.getLogger("mail.debug").setLevel(logging.ERROR)


async def read_header(reader: asyncio.StreamReader, seconds: float) -> Origin | None:
    """Read the header that a connection begins with; what follows it stays in the reader.

    Return whom the proxy speaks for; None where it speaks for itself (LOCAL: its check whether we live). The version 1
    line is bounded by the reader's limit, version 2 by the 65,535 octets that its length can say. Raises ProxyFault.
    """
    try:
        async with asyncio.timeout(seconds):
            header = await get_proxy(reader)
    except TimeoutError:
        raise ProxyFault(f"none came within {seconds:g} s") from None
    except (EOFError, OSError):
        raise ProxyFault("the connection ended within it") from None
    if not header.valid:
        raise ProxyFault(str(header.error or "it is malformed"))
    return None if header.command == V2_CMD.LOCAL else _origin(header)


def _origin(header: ProxyData) -> Origin:
    # UNKNOWN (version 1) and UNSPEC (version 2) are for proxies that do not know; a datagram or a unix socket is no
    # client of ours. Neither is anybody to trust.
    if header.protocol != PROTO.STREAM or header.family not in {AF.INET, AF.INET6}:
        return Origin(is_proxied=True)
    assert isinstance(header.src_addr, IPv4Address | IPv6Address)
    return Origin(canonical(header.src_addr), is_proxied=True)
