"""Everything that DNS says about mail which leaves one outlet: MX, SPF, DKIM, DMARC, and whether they fit together."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from relay.doctor.dkim import check_dkim
from relay.doctor.dmarc import check_alignment, check_dmarc, policy_of
from relay.doctor.dns import Dns, Unanswered
from relay.doctor.finding import Check, CheckResult, Finding, bad, good, warn
from relay.doctor.providers import Outlet
from relay.doctor.spf import check_spf

T = TypeVar("T")


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


async def check_domain(dns: Dns, outlet: Outlet) -> tuple[Finding, ...]:
    """Return every finding about the domain of an outlet. What cannot be looked up is a warning, not a fault."""
    if outlet.domain.startswith("["):
        why = f"{outlet.domain} is an address and no domain, for which nothing can be published"
        return (warn(Check.MX, why, "send with an address in a domain of yours"),)
    if outlet.is_provider_own:
        return (good(Check.ALIGNMENT, f"{outlet.domain} is a domain of {outlet.who}, which keeps its records itself"),)
    mx, spf, dkim, policy = await asyncio.gather(
        _or_unanswered(check_mx(dns, outlet.domain)),
        _or_unanswered(check_spf(dns, outlet)),
        _or_unanswered(check_dkim(dns, outlet)),
        _or_unanswered(policy_of(dns, outlet.domain)),
    )
    findings = [*_of(Check.MX, mx), *_of(Check.SPF, spf), *_of(Check.DKIM, dkim)]
    if isinstance(policy, Unanswered):
        return (*findings, _unknown(Check.DMARC, policy))
    findings += check_dmarc(policy)
    alignment = await _or_unanswered(
        check_alignment(dns, outlet, policy, _part(spf, outlet.domain), _part(dkim, outlet.domain))
    )
    return (*findings, _unknown(Check.ALIGNMENT, alignment) if isinstance(alignment, Unanswered) else alignment)


async def _or_unanswered(check: Awaitable[T]) -> T | Unanswered:
    try:
        return await check
    except Unanswered as unanswered:
        return unanswered


def _of(check: Check, found: "CheckResult | tuple[Finding, ...] | Unanswered") -> tuple[Finding, ...]:
    if isinstance(found, Unanswered):
        return (_unknown(check, found),)
    return found.findings if isinstance(found, CheckResult) else found


def _part(found: "CheckResult | Unanswered", domain: str) -> CheckResult:
    return CheckResult((), None, domain) if isinstance(found, Unanswered) else found


def _unknown(check: Check, unanswered: Unanswered) -> Finding:
    return warn(check, str(unanswered), "make sure that this machine's name servers answer, and try again")
