"""From which addresses a server sends: those that a provider publishes for it, or those of the server itself."""

import ipaddress
from dataclasses import dataclass

from relay.doctor.lookup import Dns
from relay.doctor.spf import spf_records

_MOST_NAMES = 20
_MOST_NETWORKS = 40


@dataclass(frozen=True, slots=True)
class Senders:
    """`addresses` are one of each network that sends. `are_outside`: receivers can see them as they are."""

    addresses: tuple[str, ...]

    @property
    def are_outside(self) -> bool:
        """Whether these can be the addresses that receivers see: none is of this machine or of a private network."""
        return bool(self.addresses) and all(not _is_inside(address) for address in self.addresses)


async def senders_of_include(dns: Dns, include: str) -> Senders:
    """Return one address of each network in the record that a provider wants included. Raises Unanswered."""
    names, seen = [include], {include}
    networks: list[str] = []
    while names and len(seen) <= _MOST_NAMES:
        for record in await spf_records(dns, names.pop(0)):
            for term in record.split()[1:]:
                kind, _, value = term.lstrip("+").partition("=" if term.startswith("redirect=") else ":")
                if kind in {"ip4", "ip6"}:
                    networks.append(value)
                elif kind in {"include", "redirect"} and "%" not in value and value not in seen:
                    names.append(value)
                    seen.add(value)
    return Senders(tuple(sample for network in networks[:_MOST_NETWORKS] if (sample := _sample(network))))


async def senders_of_host(dns: Dns, host: str) -> Senders:
    """Return the addresses of a server. Raises Unanswered."""
    try:
        return Senders((str(ipaddress.ip_address(host)),))
    except ValueError:
        return Senders(await dns.addresses(host))


def _sample(network: str) -> str:
    """Return an address inside a network, "" for what is none."""
    try:
        parsed = ipaddress.ip_network(network, strict=False)
    except ValueError:
        return ""
    return str(parsed.network_address + (1 if parsed.num_addresses > 1 else 0))


def _is_inside(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    # Not `is_private`: that counts the networks for documentation too, which examples and tests are made of.
    return parsed.is_loopback or parsed.is_link_local or any(parsed in network for network in _PRIVATE)


# RFC 1918 section 3, RFC 6598 section 7, RFC 4193 section 3.1.
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
