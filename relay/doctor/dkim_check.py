"""Whether receivers find the key that proves the provider's DKIM signatures."""

import asyncio
from dataclasses import dataclass

from relay.doctor.dkim import Key, read_key
from relay.doctor.finding import Check, CheckResult, Finding, bad, good, warn
from relay.doctor.lookup import Dns
from relay.doctor.outlet import Outlet
from relay.doctor.providers import COMMON_SELECTORS


@dataclass(frozen=True, slots=True)
class _Found:
    """A key and the name at which it stands."""

    name: str
    key: Key


async def check_dkim(dns: Dns, outlet: Outlet) -> CheckResult:
    """Return what is found about DKIM keys for mail that leaves an outlet. Raises Unanswered."""
    domains = list(dict.fromkeys(filter(None, (outlet.domain, outlet.account_domain))))
    for domain in domains:
        found = await _keys(dns, outlet, domain)
        if found:
            return _judge(found, domain, outlet)
    return _nothing(outlet)


async def _keys(dns: Dns, outlet: Outlet, domain: str) -> list[_Found]:
    names = [f"{selector}._domainkey.{domain}" for selector in _selectors(outlet)]
    answers = await asyncio.gather(*(dns.txt(name) for name in names))
    return [_Found(name, _key(texts)) for name, texts in zip(names, answers, strict=True) if texts]


def _selectors(outlet: Outlet) -> tuple[str, ...]:
    if outlet.selectors:
        return outlet.selectors
    return outlet.provider.selectors if outlet.provider and outlet.provider.selectors else COMMON_SELECTORS


def _key(texts: tuple[bytes, ...]) -> Key:
    if len(texts) > 1:  # RFC 6376 section 3.6.2.2
        return Key(fault=f"{len(texts)} records stand there, and receivers may take any of them")
    return read_key(texts[0])


def _judge(found: list[_Found], domain: str, outlet: Outlet) -> CheckResult:
    """Judge by the best key: the others may be there for the time when the provider changes keys."""
    best = min(found, key=lambda each: (bool(each.key.fault), bool(each.key.weakness)))
    return CheckResult((_finding(best, domain, outlet),), not best.key.fault, domain)


def _finding(found: _Found, domain: str, outlet: Outlet) -> Finding:
    key = found.key
    if key.fault:
        fix = "copy the record anew from where the key was made, or make a new key there"
        return bad(Check.DKIM, f"receivers cannot use the DKIM key at {found.name}: {key.fault}", fix)
    if key.weakness:
        fix = "make a new key of 2048 bits there, and publish it" if key.bits < 2048 else "take t=y out of the record"
        return warn(Check.DKIM, f"the DKIM key at {found.name}: {key.weakness}", fix)
    why = f"a DKIM key of {key.bits or 256} bits stands at {found.name}"
    return good(Check.DKIM, why if domain == outlet.domain else f"{why}, and none for {outlet.domain} itself")


def _nothing(outlet: Outlet) -> CheckResult:
    provider, domain = outlet.provider, outlet.domain
    selectors = _selectors(outlet)
    if outlet.selectors or (provider and provider.selectors):
        where = " or ".join(f"{selector}._domainkey.{domain}" for selector in selectors)
        why = f"there is no DKIM key at {where}, so {outlet.who} cannot sign for {domain}"
        setup = f" {provider.dkim_setup}" if provider and provider.dkim_setup else " at the server"
        return CheckResult(
            (bad(Check.DKIM, why, f"make a key{setup}, and publish the record that it shows"),), False, domain
        )
    why = (
        f"the selector under which {outlet.who} keeps its DKIM key cannot be known, and none of the usual ones has one"
    )
    fix = "look at a message that arrived: name the s= of its DKIM-Signature as --selector"
    if provider and provider.dkim_setup:
        fix += f"; keys are made {provider.dkim_setup}"
    return CheckResult((warn(Check.DKIM, why, fix),), None, domain)
