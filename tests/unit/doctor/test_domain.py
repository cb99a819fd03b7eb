"""What the doctor reads in DNS, against a real name server: one right domain, and one planted fault after the other."""

import pytest

from relay.doctor.dns import Dns
from relay.doctor.domain import check_domain
from relay.doctor.finding import Check, Finding, Level
from relay.doctor.providers import Outlet
from relay.mail.address import Address
from tests.peers.rows import each_row
from tests.peers.system import free_port
from tests.unit.doctor.zone import faults

pytestmark = pytest.mark.needs("nsd")

GOOGLE, MICROSOFT, SES = "smtp.gmail.com", "smtp.office365.com", "email-smtp.eu-west-1.amazonaws.com"
CHECKS = [Check.MX, Check.SPF, Check.DKIM, Check.DMARC, Check.ALIGNMENT]


async def findings_of(server: str, outlet: Outlet) -> list[Finding]:
    return list(await check_domain(Dns((server,)), outlet))


def at_fault(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.check.value, finding.level.value) for finding in findings if finding.level is not Level.GOOD]


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("right", GOOGLE),
        ("servers-own", "smtp.own.example"),
        ("inside", "smtp.inside.example"),
        ("redirect-spf", GOOGLE),
        ("strict", GOOGLE),
        ("sub.right", GOOGLE),
    ],
)
async def test_a_right_domain_is_all_good(dns_server: str, name: str, host: str) -> None:
    account = "right.example" if name == "sub.right" else ""
    findings = await findings_of(dns_server, Outlet(f"{name}.example", host, account))
    assert at_fault(findings) == []
    assert [finding.check for finding in findings] == CHECKS


# The domain, what is found, a part of why, and a part of what to do or of the record to publish.
PLANTED = [
    ("no-mx", "mx", "bad", "has no MX record", "no-mx.example. IN MX 10 HOST."),
    ("null-mx", "mx", "bad", "null MX", "null-mx.example. IN MX"),
    ("dead-mx", "mx", "bad", "nowhere.test, which has no address", "publish an address"),
    ("no-spf", "spf", "bad", "has no SPF record", 'no-spf.example. IN TXT "v=spf1 include:_spf.google.com ~all"'),
    ("two-spf", "spf", "bad", "has 2 SPF records", '"v=spf1 include:_spf.google.com ip4:192.0.2.7 ~all"'),
    (
        "other-spf",
        "spf",
        "bad",
        "any of the addresses of Google",
        '"v=spf1 include:_spf.google.com ip4:192.0.2.7 -all"',
    ),
    ("part-spf", "spf", "warn", "1 of 3 of the addresses of Google", "include:_spf.google.com"),
    ("many-spf", "spf", "bad", "Too many DNS lookups", "10 names"),
    ("void-spf", "spf", "bad", "Void lookup limit", "no longer exist"),
    ("all-spf", "spf", "bad", "lets everybody send", '"v=spf1 include:_spf.google.com ~all"'),
    ("open-spf", "spf", "warn", "says nothing about other senders", '"v=spf1 include:_spf.google.com ~all"'),
    ("wrong-spf", "spf", "bad", "Unknown mechanism found: ipv4:192.0.2.7", "correct the record"),
    ("loop-spf", "spf", "bad", "recursion", "correct the record"),
    ("hollow-spf", "spf", "bad", "No valid SPF record for included domain: mail.test", "take out the include"),
    ("no-dkim", "dkim", "bad", "google._domainkey.no-dkim.example", "Google Admin console"),
    ("revoked-dkim", "dkim", "bad", "the key is revoked", "make a new key"),
    ("short-dkim", "dkim", "warn", "1024 bits", "2048 bits"),
    ("cut-dkim", "dkim", "bad", "it may be cut off", "copy the record again"),
    ("testing-dkim", "dkim", "warn", "marked as a test", "take t=y out"),
    ("two-dkim", "dkim", "bad", "2 records stand there", "copy the record again"),
    ("no-dmarc", "dmarc", "warn", "has no DMARC record", '_dmarc.no-dmarc.example. IN TXT "v=DMARC1; p=none;'),
    ("none-dmarc", "dmarc", "warn", "do nothing (p=none)", "p=quarantine"),
    ("two-dmarc", "dmarc", "bad", "there are 2 DMARC records", "exactly one record"),
    ("wrong-dmarc", "dmarc", "bad", "p=rejekt is none of none, quarantine, reject", "v=DMARC1; p=rejekt"),
    ("lower-dmarc", "dmarc", "bad", "begins with v=DMARC1: 'v=dmarc1;", "v=DMARC1"),
    ("torn-dmarc", "dmarc", "bad", "'v=DMARC1 p=reject'", "v=DMARC1"),
    ("mailto-dmarc", "dmarc", "warn", "rua=postmaster@right.example is not an address", "correct the record"),
]


@each_row(("name", "check", "level", "why", "fix"), PLANTED, ids=[row[0] for row in PLANTED])
async def test_a_planted_fault_is_found_and_nothing_else(
    dns_server: str, name: str, check: str, level: str, why: str, fix: str
) -> None:
    findings = await findings_of(dns_server, Outlet(f"{name}.example", GOOGLE))
    assert at_fault(findings) == [(check, level)]
    (found,) = (finding for finding in findings if finding.level is not Level.GOOD)
    assert why in found.why
    assert fix in f"{found.fix}: {found.record}"


def test_every_domain_of_the_zone_is_tested() -> None:
    right = {"right", "servers-own", "inside", "redirect-spf", "strict", "sub.right"}
    assert set(faults()) == right | {row[0] for row in PLANTED} | {"foreign", "sub.strict"}


async def test_an_identity_of_another_domain_than_the_account_does_not_align(dns_server: str) -> None:
    findings = await findings_of(dns_server, Outlet("foreign.example", GOOGLE, "right.example"))
    assert at_fault(findings) == [("spf", "bad"), ("alignment", "bad")]
    assert "receivers are asked to reject this mail" in findings[-1].why
    assert "a key of right.example is there, which is another organisation's" in findings[-1].why
    assert "send with an account of foreign.example" in findings[-1].fix


async def test_strict_alignment_wants_the_very_same_domain(dns_server: str) -> None:
    findings = await findings_of(dns_server, Outlet("sub.strict.example", GOOGLE, "strict.example"))
    assert at_fault(findings) == [("spf", "bad"), ("alignment", "bad")]
    assert "adkim=s wants sub.strict.example itself" in findings[-1].why


async def test_a_provider_that_may_not_send_for_the_domain_is_named(dns_server: str) -> None:
    findings = await findings_of(dns_server, Outlet("right.example", MICROSOFT))
    assert at_fault(findings) == [("spf", "bad"), ("dkim", "bad"), ("alignment", "bad")]
    assert "include:spf.protection.outlook.com" in findings[1].record
    assert "selector1._domainkey.right.example or selector2._domainkey.right.example" in findings[2].why


async def test_a_provider_with_its_own_envelope_needs_dkim(dns_server: str) -> None:
    findings = await findings_of(dns_server, Outlet("right.example", SES))
    assert at_fault(findings) == [("dkim", "warn"), ("alignment", "warn")]
    assert "cannot be known" in findings[2].why
    known = await findings_of(dns_server, Outlet("right.example", SES, selectors=("google",)))
    assert at_fault(known) == []
    assert known[-1].why.startswith("DKIM aligns with right.example")


async def test_a_server_inside_is_not_what_receivers_see(dns_server: str) -> None:
    findings = await findings_of(dns_server, Outlet("servers-own.example", "smtp.inside.example"))
    assert at_fault(findings) == [("spf", "warn")]
    assert "10.1.2.3, which is not what receivers see" in findings[1].why


async def test_a_record_for_a_server_whose_address_is_not_known_leaves_it_open(dns_server: str) -> None:
    findings = await findings_of(dns_server, Outlet("no-spf.example", "smtp.inside.example"))
    (found,) = (finding for finding in findings if finding.check is Check.SPF)
    assert found.record == 'no-spf.example. IN TXT "v=spf1 ip4:ADDRESS ~all"'


async def test_somebody_elses_server_may_send_from_elsewhere(dns_server: str) -> None:
    findings = await findings_of(dns_server, Outlet("right.example", "smtp.own.example"))
    assert at_fault(findings) == [("spf", "warn"), ("dkim", "warn"), ("alignment", "warn")]
    assert "ask the one who runs it" in findings[1].fix
    own = await findings_of(dns_server, Outlet("right.example", "smtp.own.example", "own.example"))
    assert ("spf", "bad") in at_fault(own)
    assert "ip4:192.0.2.25 include:_spf.google.com" in own[1].record


async def test_a_providers_own_domain_is_its_own_affair(dns_server: str) -> None:
    findings = await findings_of(dns_server, Outlet("gmail.com", GOOGLE))
    assert at_fault(findings) == []
    assert "which keeps its records itself" in findings[0].why


async def test_without_dns_nothing_is_known_and_nothing_is_bad() -> None:
    findings = await findings_of(f"127.0.0.1:{free_port()}", Outlet("right.example", GOOGLE))
    assert at_fault(findings) == [("mx", "warn"), ("spf", "warn"), ("dkim", "warn"), ("dmarc", "warn")]
    assert all("could not be looked up" in finding.why for finding in findings)


async def test_an_address_literal_is_no_domain() -> None:
    outlet = Outlet.of(Address.parse("a@[192.0.2.1]"), GOOGLE, "")
    assert at_fault(await findings_of("127.0.0.1:1", outlet)) == [("mx", "warn")]
