"""The PROXY header, version 1 and 2, in which a proxy says whom it speaks for (haproxy's proxy-protocol.txt).

SECURITY: whose header may be believed is said by the gate; here a header is only read, in bounded time and memory.
"""

import asyncio
import logging
from ipaddress import IPv4Address, IPv6Address

from aiosmtpd.proxy_protocol import AF, PROTO, V2_CMD, ProxyData, get_proxy

from relay.listener.peer import Origin, canonical


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
