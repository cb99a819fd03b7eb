"""What a domain asks of receivers (DMARC), and whether our mail can meet it: what SPF and DKIM prove must align."""

from relay.doctor.dmarc import Policy, aligns, policy_of
from relay.doctor.finding import Check, CheckResult, Finding, bad, good, txt_record, warn
from relay.doctor.lookup import Dns
from relay.doctor.outlet import Outlet


def check_dmarc(policy: Policy) -> tuple[Finding, ...]:
    """Return the findings about the policy that holds for a domain."""
    domain = policy.domain
    at = f"_dmarc.{domain}"
    record = policy.record
    start = txt_record(at, f"v=DMARC1; p=none; rua=mailto:postmaster@{domain}")
    if policy.wrong:
        return (bad(Check.DMARC, f"at {at}, {policy.wrong}", "publish exactly one record there", start),)
    if record is None:
        why = f"{domain} has no DMARC record, which Google and Yahoo ask of senders"
        return (warn(Check.DMARC, why, "publish one that only asks for reports, and tighten it later", start),)
    where = f"{record.domain}, from which {domain} inherits," if policy.is_inherited else domain
    if record.faults:
        why = f"the DMARC record of {where} has a fault: {'; '.join(record.faults)}"
        is_lost = not record.tags or record.tags.get("p") not in {"none", "quarantine", "reject"}
        make = bad if is_lost else warn
        return (make(Check.DMARC, why, f"correct the record, which is now: {record.text}"),)
    if policy.wish == "none":
        why = f"the DMARC record of {where} asks receivers to do nothing (p=none), so that others can send in its name"
        tighter = record.text.replace("p=none", "p=quarantine", 1)
        fix = "when the reports show that your own mail passes, tighten it"
        return (warn(Check.DMARC, why, fix, txt_record(f"_dmarc.{record.domain}", tighter)),)
    return (good(Check.DMARC, f"the DMARC record of {where} asks for {policy.wish}"),)


async def check_alignment(dns: Dns, outlet: Outlet, policy: Policy, spf: CheckResult, dkim: CheckResult) -> Finding:
    """Return whether SPF and DKIM would align for mail of an outlet, and who breaks it. Raises Unanswered."""
    by_spf, why_spf = await _aligned(dns, policy, spf, "aspf", _spf_words(outlet, spf))
    if outlet.provider and not outlet.provider.keeps_envelope:
        by_spf = False
    by_dkim, why_dkim = await _aligned(dns, policy, dkim, "adkim", _dkim_words(outlet, dkim))
    why = f"SPF: {why_spf}; DKIM: {why_dkim}"
    if by_spf or by_dkim:
        both = "SPF and DKIM align" if by_spf and by_dkim else f"{'SPF' if by_spf else 'DKIM'} aligns"
        return good(Check.ALIGNMENT, f"{both} with {outlet.domain} ({why})")
    if by_spf is None or by_dkim is None:
        return warn(Check.ALIGNMENT, f"it is not known whether DMARC passes ({why})", _fix(outlet))
    if policy.wish == "none":
        return warn(Check.ALIGNMENT, f"neither SPF nor DKIM aligns with {outlet.domain} ({why})", _fix(outlet))
    lost = f"receivers are asked to {policy.wish} this mail: neither SPF nor DKIM aligns with {outlet.domain}"
    return bad(Check.ALIGNMENT, f"{lost} ({why})", _fix(outlet))


async def _aligned(dns: Dns, policy: Policy, part: CheckResult, tag: str, words: str) -> tuple[bool | None, str]:
    if not part.passes:
        return part.passes, words
    is_strict = policy.is_strict(tag)
    organisation = policy.organisation
    if part.domain != policy.domain:
        organisation = (await policy_of(dns, part.domain)).organisation
    if aligns(policy.domain, policy.organisation, part.domain, organisation, is_strict=is_strict):
        return True, words
    rule = f"but {tag}=s wants {policy.domain} itself" if is_strict else "which is another organisation's"
    return False, f"{words}, {rule}"


def _spf_words(outlet: Outlet, part: CheckResult) -> str:
    if outlet.provider and not outlet.provider.keeps_envelope:
        return f"{outlet.who} puts an envelope sender of its own, unless a return path of yours is set up there"
    if part.passes:
        return f"{outlet.who} may send for {part.domain}"
    return "not known" if part.passes is None else f"it does not pass for {outlet.who}"


def _dkim_words(outlet: Outlet, part: CheckResult) -> str:
    if part.passes:
        return f"a key of {part.domain} is there"
    if part.passes is None:
        return "which domain signs is not known"
    if outlet.account_domain and outlet.account_domain != outlet.domain:
        return f"{outlet.domain} has no good key, and the account is of {outlet.account_domain}"
    return f"{outlet.domain} has no good key"


def _fix(outlet: Outlet) -> str:
    if outlet.account_domain and outlet.account_domain != outlet.domain:
        return f"send with an account of {outlet.domain}, or mend SPF and DKIM as said above"
    return "mend SPF or DKIM as said above, then test with: relay channel test NAME --round-trip"
