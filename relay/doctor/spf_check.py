"""Whether the SPF record of a domain lets our server send, and nobody else."""

from collections import Counter
from collections.abc import Iterable, Mapping

from relay.doctor.finding import Check, CheckResult, Finding, bad, good, txt_record, warn
from relay.doctor.lookup import Dns, Unanswered
from relay.doctor.outlet import Outlet
from relay.doctor.senders import Senders, senders_of_host, senders_of_include
from relay.doctor.spf import SpfResult, evaluate, spf_records

# In the reserved network 240.0.0.0/4 (RFC 1112 section 4): nobody's, so only "all" can match it.
_STRANGER = "240.0.0.1"
_ADVICE: Mapping[str, str] = {
    "Too many DNS lookups": "take out what is no longer used, or name addresses (ip4:) instead of names: an evaluation "
    "may ask for 10 names (RFC 7208 section 4.6.4)",
    "Void lookup limit": "take out the names that no longer exist: an evaluation may find nothing twice (RFC 7208 "
    "section 4.6.4)",
    "No valid SPF record": "take out the include whose domain has no SPF record",
}


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
