"""SPF (RFC 7208): whether the record of a domain lets our server send, and nobody else.

The evaluation is pyspf's, which the makers of the SPF test suite wrote. It does no I/O here: what it asks of DNS and we
do not know yet is looked up, and then it begins anew, until it comes to a result. So nothing blocks, and many addresses
are judged with the same answers.
"""

import asyncio
import ipaddress
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from relay.doctor.dns import Dns, Record, RecordType, Unanswered
from relay.doctor.finding import Check, CheckResult, Finding, bad, good, txt_record, warn
from relay.doctor.providers import Outlet

# A record within the limits asks for some 10 names, and 10 more for each of them that is an MX.
_MOST_QUESTIONS = 150
_PREFIXES = ("SPF Permanent Error: ", "SPF Temporary Error: ")
_IS_SPF = b"v=spf1"
_Key: TypeAlias = "tuple[str, RecordType]"

_MOST_NAMES = 20
_MOST_NETWORKS = 40
# RFC 1918 section 3, RFC 6598 section 7, RFC 4193 section 3.1.
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
# In the reserved network 240.0.0.0/4 (RFC 1112 section 4): nobody's, so only "all" can match it.
_STRANGER = "240.0.0.1"
_ADVICE: Mapping[str, str] = {
    "Too many DNS lookups": "take out what is no longer used, or name addresses (ip4:) instead of names: an evaluation "
    "may ask for 10 names (RFC 7208 section 4.6.4)",
    "Void lookup limit": "take out the names that no longer exist: an evaluation may find nothing twice (RFC 7208 "
    "section 4.6.4)",
    "No valid SPF record": "take out the include whose domain has no SPF record",
}


@dataclass(frozen=True, slots=True)
class SpfResult:
    """What SPF says: pass, fail, softfail, neutral, none, permerror or temperror, and pyspf's reason for an error."""

    result: str
    reason: str = ""


class _Missing(Exception):  # never leaves this file
    def __init__(self, name: str, kind: RecordType) -> None:
        super().__init__(name)
        self.key = (name, kind)


async def spf_records(dns: Dns, domain: str) -> tuple[str, ...]:
    """Return the SPF records of a domain: there may be one (RFC 7208 section 4.5). Raises Unanswered."""
    texts = await dns.txt(domain)
    return tuple(text.decode("ascii", "replace") for text in texts if _is_spf(text))


async def evaluate(dns: Dns, domain: str, addresses: Iterable[str]) -> Mapping[str, SpfResult]:
    """Return what the record of a domain says about each IP address."""
    known: dict[_Key, tuple[Record, ...] | Unanswered] = {}
    return {address: await _evaluate(dns, domain, address, known) for address in addresses}


async def _evaluate(
    dns: Dns, domain: str, address: str, known: dict[_Key, tuple[Record, ...] | Unanswered]
) -> SpfResult:
    for _ in range(_MOST_QUESTIONS):
        query = _query_class()(address, f"postmaster@{domain}", domain, known)
        try:
            # In a thread: a long record takes a moment, which holds up no message.
            result, _, text = await asyncio.to_thread(query.check)
        except _Missing as missing:
            try:
                known[missing.key] = await dns.records(*missing.key)
            except Unanswered as unanswered:
                known[missing.key] = unanswered
        else:
            return SpfResult(result, _reason(text))
    return SpfResult("permerror", "it asks for too many names")


def _is_spf(text: bytes) -> bool:
    return text.lower() == _IS_SPF or text[:7].lower() == _IS_SPF + b" "


def _reason(text: str) -> str:
    prefix = next((prefix for prefix in _PREFIXES if text.startswith(prefix)), None)
    return text.removeprefix(prefix) if prefix else ""


@cache
def _query_class() -> Any:
    """Return pyspf's query with our answers. Loaded at its first use only: see `lookup`."""
    with warnings.catch_warnings():
        # One of its docstrings has a backslash that Python warns about where the module is not compiled yet.
        warnings.simplefilter("ignore")
        import spf  # noqa: PLC0415

    class Query(spf.query):  # type: ignore[misc]  # pyspf has no types
        """An evaluation that asks nobody: what is not in `known` ends it."""

        def __init__(
            self, address: str, sender: str, domain: str, known: Mapping[_Key, tuple[Record, ...] | Unanswered]
        ) -> None:
            super().__init__(i=address, s=sender, h=domain)
            self._known = known

        def dns(self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[Any]:  # noqa: ARG002
            """Return the records in pyspf's forms, and count the look-ups that find nothing (section 4.6.4)."""
            key = (str(name).lower().rstrip("."), RecordType(qtype))
            if key not in self._known:
                raise _Missing(*key)
            found = self._known[key]
            if isinstance(found, Unanswered):
                raise spf.TempError(str(found))
            if not found and not ignore_void:
                self.void_lookups += 1
                if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                    raise spf.PermError(f"Void lookup limit of {spf.MAX_VOID_LOOKUPS} exceeded")
            return [(record,) if qtype == "TXT" else record for record in found]

    return Query


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


async def check_spf(dns: Dns, outlet: Outlet) -> CheckResult:
    """Return what is found about SPF for mail that leaves an outlet. Raises Unanswered."""
    domain = outlet.domain
    records = await spf_records(dns, domain)
    if len(records) > 1:
        why = f"{domain} has {len(records)} SPF records, and receivers then take SPF for broken"
        finding = bad(Check.SPF, why, "publish one instead of them", txt_record(domain, merged(records)))
        return _part(outlet, [finding], False)
    try:
        senders = await _senders(dns, outlet)
    except Unanswered as unanswered:
        fix = "try again when DNS answers"
        return _part(outlet, [warn(Check.SPF, f"where {outlet.who} sends from is not known: {unanswered}", fix)], None)
    if not records:
        return _part(outlet, [_missing(outlet, senders)], False)
    results = await evaluate(dns, domain, (_STRANGER, *senders.addresses))
    findings = [*_about_record(domain, results[_STRANGER], records[0])]
    passes: bool | None = None
    if not (findings and results[_STRANGER].result == "temperror"):
        ours = [results[address] for address in senders.addresses]
        found, passes = _about_senders(outlet, senders, ours, records[0])
        findings += found
    if not findings:
        findings = [good(Check.SPF, _praise(outlet, senders))]
    return _part(outlet, findings, passes)


def merged(records: Iterable[str]) -> str:
    """Return one record that says what several say; it ends softly (~all)."""
    terms = [term for record in records for term in record.split()[1:]]
    kept = [term for term in dict.fromkeys(terms) if term.lstrip("+-~?").lower() != "all"]
    return " ".join(["v=spf1", *kept, "~all"])


def with_term(record: str, term: str) -> str:
    """Return a record with one more mechanism, before all others."""
    _, _, rest = record.partition(" ")
    return " ".join(part for part in ("v=spf1", term, rest or "~all") if part)


async def _senders(dns: Dns, outlet: Outlet) -> Senders:
    if outlet.provider and outlet.provider.spf_include:
        return await senders_of_include(dns, outlet.provider.spf_include)
    return await senders_of_host(dns, outlet.host)


def _part(outlet: Outlet, findings: list[Finding], passes: bool | None) -> CheckResult:
    return CheckResult(tuple(findings), passes, outlet.domain)


def _term(outlet: Outlet, senders: Senders) -> str:
    """Return the mechanism that lets the server send."""
    if outlet.provider and outlet.provider.spf_include:
        return f"include:{outlet.provider.spf_include}"
    return " ".join(f"ip{6 if ':' in address else 4}:{address}" for address in senders.addresses)


def _missing(outlet: Outlet, senders: Senders) -> Finding:
    domain = outlet.domain
    is_known = bool(outlet.provider and outlet.provider.spf_include) or (outlet.is_own_server and senders.are_outside)
    why = f"{domain} has no SPF record, so receivers cannot tell that {outlet.who} may send for it"
    fix = "publish one" if is_known else "publish one with the addresses (ADDRESS) that the server sends from"
    record = txt_record(domain, f"v=spf1 {_term(outlet, senders) if is_known else 'ip4:ADDRESS'} ~all")
    if outlet.provider and not outlet.provider.keeps_envelope:
        why = f"{domain} has no SPF record; {outlet.who} has its own envelope, but some receivers ask for one"
        return warn(Check.SPF, why, fix, record)
    return bad(Check.SPF, why, fix, record)


def _about_record(domain: str, result: SpfResult, record: str) -> Iterable[Finding]:
    """What is wrong with the record itself, seen from an address that nobody has."""
    match result.result:
        case "permerror":
            why = f"the SPF record of {domain} is broken: {result.reason}"
            fix = next((fix for start, fix in _ADVICE.items() if result.reason.startswith(start)), "")
            yield bad(Check.SPF, why, fix or f"correct the record, which is now: {record}")
        case "temperror":
            yield warn(Check.SPF, f"the SPF record of {domain}: {result.reason}", "try again when DNS answers")
        case "pass":
            why = f"the SPF record of {domain} lets everybody send (+all), so that it proves nothing"
            yield bad(Check.SPF, why, "end it with ~all", txt_record(domain, merged([record])))
        case "neutral":
            why = f"the SPF record of {domain} says nothing about other senders (?all, or no all)"
            yield warn(Check.SPF, why, "end it with ~all", txt_record(domain, merged([record])))


def _about_senders(
    outlet: Outlet, senders: Senders, results: list[SpfResult], record: str
) -> tuple[list[Finding], bool | None]:
    """Return what the record says about our server's addresses, and whether SPF passes for all of them."""
    counts = Counter(result.result for result in results)
    passing = counts["pass"]
    if results and passing == len(results):
        return [], True
    if not outlet.provider and not senders.are_outside:
        where = ", ".join(senders.addresses) or "no address"
        why = f"{outlet.host} is {where}, which is not what receivers see, so SPF cannot be judged"
        fix = "ask the one who runs it from which addresses it sends, and name them in the SPF record"
        return [warn(Check.SPF, why, fix)], None
    if any(result.result == "permerror" for result in results):
        return [], False  # said already: the record is broken
    if any(result.result == "temperror" for result in results):
        return [], None
    if not results:
        fix = "look at the provider's own page for what the record must include"
        return [warn(Check.SPF, f"where {outlet.who} sends from is not known", fix)], None
    worst = next(result.result for result in results if result.result != "pass")
    fix = f"publish this in its place, so that {outlet.who} may send"
    suggested = txt_record(outlet.domain, with_term(record, _term(outlet, senders)))
    which = "any" if not passing else f"{len(results) - passing} of {len(results)}"
    why = f"the SPF record of {outlet.domain} does not name {which} of the addresses of {outlet.who} ({worst})"
    if outlet.provider and not outlet.provider.keeps_envelope:
        return [], False  # it is asked about another domain: see `alignment`
    if not outlet.provider and not outlet.is_own_server:
        fix = "ask the one who runs it what your SPF record must include; others may send for it"
        return [warn(Check.SPF, why, fix)], None
    return [bad(Check.SPF, why, fix, suggested) if not passing else warn(Check.SPF, why, fix, suggested)], False


def _praise(outlet: Outlet, senders: Senders) -> str:
    if outlet.provider and not outlet.provider.keeps_envelope:
        return (
            f"{outlet.domain} has an SPF record; {outlet.who} sends with an envelope of its own, for which it answers"
        )
    number = len(senders.addresses)
    what = "the address" if number == 1 else f"the {number} networks" if outlet.provider else f"the {number} addresses"
    return f"the SPF record of {outlet.domain} passes for {what} of {outlet.who}"
