"""DMARC (RFC 9989): what a domain asks of receivers, and whether our mail can meet it.

The policy that holds is found by walking up the DNS tree; what SPF and DKIM prove must align with the From domain.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from relay.doctor.dkim import tag_list
from relay.doctor.dns import Dns
from relay.doctor.finding import Check, CheckResult, Finding, bad, good, txt_record, warn
from relay.doctor.providers import Outlet

_POLICIES = ("none", "quarantine", "reject")
# Section 4.7. pct, rf and ri are of RFC 7489; receivers ignore them.
_TAGS = frozenset({"v", "p", "sp", "np", "psd", "adkim", "aspf", "fo", "rua", "ruf", "t", "pct", "rf", "ri"})
_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "p": _POLICIES,
        "sp": _POLICIES,
        "np": _POLICIES,
        "adkim": ("r", "s"),
        "aspf": ("r", "s"),
        "psd": ("y", "n", "u"),
        "t": ("y", "n"),
    }
)
_MOST_LABELS = 8  # section 4.10: a longer name is cut to 7 labels after the first question


@dataclass(frozen=True, slots=True)
class DmarcRecord:
    """A record with its tags. `faults` are sentences about tags that receivers ignore or take for something else."""

    domain: str
    text: str
    tags: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for a domain. `record` is None where there is none; `found` are all that the walk came upon.

    `organisation` is the organisational domain. `wrong` says why what stands at the domain itself is no record.
    """

    domain: str
    organisation: str
    record: DmarcRecord | None
    wrong: str = ""

    @property
    def is_inherited(self) -> bool:
        """Whether the record is that of a domain above."""
        return self.record is not None and self.record.domain != self.domain

    @property
    def wish(self) -> str:
        """What receivers are asked to do with mail that fails: "none", "quarantine" or "reject" (section 4.7)."""
        if self.record is None:
            return "none"
        tags = self.record.tags
        wish = tags.get("sp", tags.get("p", "none")) if self.is_inherited else tags.get("p", "none")
        wish = wish if wish in _POLICIES else "none"
        if tags.get("t") == "y":  # a test: one step milder
            return _POLICIES[max(0, _POLICIES.index(wish) - 1)]
        return wish

    def is_strict(self, tag: str) -> bool:
        """Whether "adkim" or "aspf" asks for the very same domain."""
        return self.record is not None and self.record.tags.get(tag) == "s"


def read_record(domain: str, text: bytes) -> DmarcRecord | None:
    """Return the record in a TXT record, None for what is none: a record begins with v=DMARC1 exactly."""
    words = text.decode("ascii", "replace")
    version, _, _ = words.partition(";")
    if "".join(version.split()) != "v=DMARC1":
        return None
    try:
        tags = tag_list(words)
    except ValueError as error:
        return DmarcRecord(domain, words, {}, (str(error),))
    return DmarcRecord(domain, words, tags, tuple(_tag_faults(tags)))


async def policy_of(dns: Dns, domain: str) -> Policy:
    """Return the policy for a domain (A-labels, lower case). Raises Unanswered."""
    names = walk(domain)
    answers = await asyncio.gather(*(dns.txt(f"_dmarc.{name}") for name in names))
    found: dict[str, DmarcRecord] = {}
    for name, texts in zip(names, answers, strict=True):
        records = [record for text in texts if (record := read_record(name, text)) is not None]
        if len(records) == 1:  # several count as none
            found[name] = records[0]
    organisation = _organisation(domain, found)
    record = found.get(domain) or found.get(organisation) or _public_suffix(found, organisation)
    return Policy(domain, organisation, record, _wrong(answers[0]))


def walk(domain: str) -> tuple[str, ...]:
    """Return the names at which policies are looked for, from the domain up (section 4.10)."""
    labels = domain.split(".")
    above = labels[-(_MOST_LABELS - 1) :] if len(labels) >= _MOST_LABELS else labels[1:]
    return (domain, *(".".join(above[start:]) for start in range(len(above))))


def aligns(domain: str, organisation: str, other: str, other_organisation: str, *, is_strict: bool) -> bool:
    """Whether another domain speaks for this one (section 4.4): the same, or, unless strict, of one organisation."""
    return domain == other if is_strict else organisation == other_organisation


def _organisation(domain: str, found: Mapping[str, DmarcRecord]) -> str:
    """Return the organisational domain (section 4.10.2); `found` are the records from the domain up."""
    for name, record in found.items():
        if record.tags.get("psd") == "n":
            return name
        if record.tags.get("psd") == "y" and name != domain:
            labels = domain.split(".")
            return ".".join(labels[-(name.count(".") + 2) :])
    return list(found)[-1] if found else domain


def _public_suffix(found: Mapping[str, DmarcRecord], organisation: str) -> DmarcRecord | None:
    """Return the record of the public suffix above the organisation, which holds where there is no other."""
    above = [record for record in found.values() if record.tags.get("psd") == "y" and record.domain != organisation]
    return above[0] if above else None


def _wrong(texts: tuple[bytes, ...]) -> str:
    records = [text for text in texts if read_record("", text) is not None]
    if len(records) > 1:
        return f"there are {len(records)} DMARC records, and receivers then use none"
    if texts and not records:
        said = texts[0].decode("ascii", "replace")[:60]
        return f"the record there is not a DMARC record, which begins with v=DMARC1: {said!r}"
    return ""


def _tag_faults(tags: Mapping[str, str]) -> list[str]:
    faults = [f"{name}= is not a DMARC tag and is ignored" for name in tags if name not in _TAGS]
    for name, words in _WORDS.items():
        if name in tags and tags[name] not in words:
            faults.append(f"{name}={tags[name]} is none of {', '.join(words)}")
    if "p" not in tags:
        faults.append("it has no policy (p=), which stands for none")
    faults += [
        f"{name}={tags[name]} is not an address; write mailto:NAME@DOMAIN"
        for name in ("rua", "ruf")
        if name in tags and not all(uri.strip().lower().startswith("mailto:") for uri in tags[name].split(","))
    ]
    return faults


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
        return f"send with an account of {outlet.domain}, or correct SPF and DKIM as described above"
    return "correct SPF or DKIM as described above, then test with: relay channel test NAME --round-trip"
