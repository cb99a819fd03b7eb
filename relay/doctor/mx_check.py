"""Whether answers and bounces to an address can arrive: the MX records of its domain (RFC 5321 section 5.1)."""

import asyncio

from relay.doctor.finding import Check, Finding, bad, good, warn
from relay.doctor.lookup import Dns


async def check_mx(dns: Dns, domain: str) -> tuple[Finding, ...]:
    """Return the finding about a domain's MX records. Raises Unanswered."""
    hosts = [host for _, host in await dns.mx(domain)]
    if hosts == [""]:  # RFC 7505
        why = f"{domain} says by a null MX that it takes no mail, so answers and bounces are lost"
        return (
            bad(
                Check.MX,
                why,
                "publish an MX record with the name (HOST) of the server that receives its mail",
                _record(domain),
            ),
        )
    if not hosts:
        return (await _without(dns, domain),)
    addresses = await asyncio.gather(*(dns.addresses(host) for host in hosts))
    dead = [host for host, found in zip(hosts, addresses, strict=True) if not found]
    if len(dead) == len(hosts):
        why = f"mail for {domain} goes to {', '.join(dead)}, which has no address"
        return (bad(Check.MX, why, "publish an address (A or AAAA) for it, or correct the MX record"),)
    if dead:
        why = f"of the mail servers of {domain}, {', '.join(dead)} has no address"
        return (warn(Check.MX, why, "remove that MX record, or publish an address for the name"),)
    return (good(Check.MX, f"answers to {domain} go to {', '.join(hosts)}"),)


async def _without(dns: Dns, domain: str) -> Finding:
    fix = "publish an MX record with the name (HOST) of the server that receives its mail"
    if await dns.addresses(domain):
        why = f"{domain} has no MX record; its own address takes the place of one, which some receivers distrust"
        return warn(Check.MX, why, fix, _record(domain))
    why = f"{domain} has no MX record, so no answer or bounce arrives, and many receivers refuse its mail"
    return bad(Check.MX, why, fix, _record(domain))


def _record(domain: str) -> str:
    return f"{domain}. IN MX 10 HOST."
