"""Questions to DNS. Each is asked once in a run, however many profiles need the answer.

A name that does not exist and a name without such records are the same here: nothing is found. That no name server
gives an answer is something else: nothing is known then.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from relay.config.endpoint import TcpAddress, parse_endpoint

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

_AT_ONCE = 20
_ONE_SERVER_SECONDS = 2.0
_SECONDS = 5.0

Record: TypeAlias = "bytes | str | tuple[int, str]"


class RecordType(StrEnum):
    """The kinds of records that are asked for."""

    A = "A"
    AAAA = "AAAA"
    MX = "MX"
    PTR = "PTR"
    TXT = "TXT"


class Unanswered(Exception):
    """No name server gave an answer. The message says about what, and why."""


class Dns:
    """Asks name servers: those given as "host:port", or the system's where none is given."""

    def __init__(self, servers: tuple[str, ...] = ()) -> None:
        self._servers = servers
        self._resolver: Resolver | None = None
        self._asked: dict[tuple[str, RecordType], asyncio.Task[tuple[Record, ...] | Unanswered]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def txt(self, name: str) -> tuple[bytes, ...]:
        """Return the TXT records of a name, each with its strings joined. Raises Unanswered."""
        return tuple(found for found in await self.records(name, RecordType.TXT) if isinstance(found, bytes))

    async def mx(self, name: str) -> tuple[tuple[int, str], ...]:
        """Return preference and host of each MX record, the preferred first; the host "" is a null MX."""
        return tuple(sorted(found for found in await self.records(name, RecordType.MX) if isinstance(found, tuple)))

    async def addresses(self, name: str) -> tuple[str, ...]:
        """Return the IP addresses of a name, IPv4 first. Raises Unanswered."""
        both = await asyncio.gather(self.records(name, RecordType.A), self.records(name, RecordType.AAAA))
        return tuple(found for records in both for found in records if isinstance(found, str))

    async def records(self, name: str, kind: RecordType) -> tuple[Record, ...]:
        """Return the records of a name, () where there are none. Raises Unanswered."""
        key = (name.lower().rstrip("."), kind)
        if key not in self._asked:
            self._asked[key] = asyncio.get_running_loop().create_task(self._ask(*key))
        found = await asyncio.shield(self._asked[key])  # somebody else may wait for the same answer
        if isinstance(found, Unanswered):
            raise found
        return found

    async def _ask(self, name: str, kind: RecordType) -> tuple[Record, ...] | Unanswered:
        """Return the records, or why there is no answer: an exception that nobody fetches would be complained about."""
        # dnspython takes some 70 ms to load, which every other command and the start of a relay can do without.
        from dns import exception, resolver  # noqa: PLC0415
        from dns.name import from_text  # noqa: PLC0415

        try:
            asked = from_text(name)
        except (exception.DNSException, UnicodeError):
            return ()  # what cannot be a name has no records
        try:
            if self._resolver is None:
                self._resolver = await asyncio.to_thread(_make_resolver, self._servers)
            async with self._turns:
                answer = await self._resolver.resolve(
                    asked, kind.value, lifetime=_SECONDS, raise_on_no_answer=False, search=False
                )
        except resolver.NXDOMAIN:
            return ()
        except (exception.DNSException, OSError) as error:
            return Unanswered(f"{name} could not be looked up: {_reason(error)}")
        return tuple(_VALUES[kind](data) for data in answer.rrset or ())


def _make_resolver(servers: tuple[str, ...]) -> "Resolver":
    from dns.asyncresolver import Resolver  # noqa: PLC0415  see above
    from dns.nameserver import Do53Nameserver  # noqa: PLC0415

    resolver = Resolver(configure=not servers)
    resolver.timeout = _ONE_SERVER_SECONDS
    if servers:
        places = dict.fromkeys(place for server in servers for place in _places(server))
        resolver.nameservers = [Do53Nameserver(*place) for place in places]
    return resolver


def _places(server: str) -> list[tuple[str, int]]:
    """Return every IP address and port of a name server. It may block. Raises OSError."""
    endpoint = parse_endpoint(server)
    assert isinstance(endpoint, TcpAddress)
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or error
        raise OSError(f"[dns] servers names {server}, which is not known: {words}") from None
    return [(str(address[0]), int(address[1])) for *_, address in found]


def _reason(error: Exception) -> str:
    from dns import resolver  # noqa: PLC0415  see above

    if isinstance(error, resolver.LifetimeTimeout):
        return f"no name server answered within {_SECONDS:g} s"
    if isinstance(error, resolver.NoNameservers):
        return "every name server failed or refused to answer"
    if isinstance(error, resolver.NoResolverConfiguration):
        return "this machine names no name server; set [dns] servers"
    return str(error) or type(error).__name__


_VALUES: Mapping[RecordType, Callable[[Any], Record]] = MappingProxyType(
    {
        RecordType.A: lambda data: str(data.address),
        RecordType.AAAA: lambda data: str(data.address),
        RecordType.MX: lambda data: (int(data.preference), data.exchange.to_text(omit_final_dot=True).lstrip(".")),
        RecordType.PTR: lambda data: str(data.target.to_text(omit_final_dot=True)),
        RecordType.TXT: lambda data: b"".join(data.strings),
    }
)
