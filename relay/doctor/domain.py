"""Everything that DNS says about mail which leaves one outlet: MX, SPF, DKIM, DMARC, and whether they fit together."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from relay.doctor.dkim_check import check_dkim
from relay.doctor.dmarc import policy_of
from relay.doctor.dmarc_check import check_alignment, check_dmarc
from relay.doctor.finding import Check, CheckResult, Finding, good, warn
from relay.doctor.lookup import Dns, Unanswered
from relay.doctor.mx_check import check_mx
from relay.doctor.outlet import Outlet
from relay.doctor.spf_check import check_spf

T = TypeVar("T")


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
    return warn(check, str(unanswered), "see to it that this machine's name servers answer, and try again")
