"""Who a client is before any login: by the address it comes from and the listener it came to.

SECURITY: whether somebody may send without a login is decided here, from the kernel's word on the connection and never
from what the client says. A TCP connection whose address is not known is not trusted.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any, TypeAlias

from relay.directory.client import Client

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# How a client of a unix socket is called in replies, log and Received.
UNIX_PEER = "unix"


class Gate:
    """One listener's rule for clients without a login."""

    def __init__(
        self, trusted_networks: Sequence[_Network], may_send_as: Sequence[str], *, is_unix: bool = False
    ) -> None:
        self._networks = tuple(trusted_networks)
        self._may_send_as = tuple(may_send_as)
        self._is_unix = is_unix

    def client_of(self, peername: Any) -> Client:
        """Return the client behind a connection; `peername` is what its transport gives (RFC 5321 knows no port)."""
        if self._is_unix:
            return Client(UNIX_PEER, UNIX_PEER, self._may_send_as, is_trusted=True)
        address = _address(peername)
        name = str(address) if address else "unknown"
        is_trusted = address is not None and any(address in network for network in self._networks)
        return Client(name, name, self._may_send_as if is_trusted else (), is_trusted=is_trusted)


def _address(peername: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if not isinstance(peername, tuple) or not peername:
        return None
    address = ipaddress.ip_address(peername[0].partition("%")[0])
    # A socket for both families gives IPv4 clients as ::ffff:192.0.2.1 (RFC 4291 section 2.5.5.2).
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
