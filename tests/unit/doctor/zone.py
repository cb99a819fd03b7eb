"""The DNS of the doctor's tests: one domain that is right, and one for each fault, which differs in nothing else."""

import base64
from collections.abc import Mapping
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.doctor.finding import txt_record

# The right one: its mail leaves through Google, whose networks stand in PROVIDERS below.
RIGHT_SPF = "v=spf1 include:_spf.google.com ~all"
RIGHT_DMARC = "v=DMARC1; p=reject; rua=mailto:postmaster@right.example"
# A fault is a name of a domain and what its records are instead; None: there is no such record.
Records = Mapping[str, str | tuple[str, ...] | None]

_TEN_NAMES = " ".join(f"a:host{number}.many.example" for number in range(10))
_PROVIDERS = """\
_spf.google.com. IN TXT "v=spf1 include:_netblocks.google.com include:_netblocks2.google.com ~all"
_netblocks.google.com. IN TXT "v=spf1 ip4:198.51.100.0/25 ip4:198.51.100.128/25 ~all"
_netblocks2.google.com. IN TXT "v=spf1 ip6:2001:db8:4000::/36 ~all"
spf.protection.outlook.com. IN TXT "v=spf1 ip4:203.0.113.0/24 -all"
amazonses.com. IN TXT "v=spf1 ip4:192.0.2.128/25 -all"
smtp.own.example. IN A 192.0.2.25
smtp.inside.example. IN A 10.1.2.3
mail.test. IN A 192.0.2.1
"""


@cache
def public_key(bits: int = 2048) -> str:
    """The p= of a fresh RSA key."""
    key = rsa.generate_private_key(65537, bits).public_key()
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def dkim(bits: int = 2048, **tags: str) -> str:
    """A DKIM key record, with more tags or others."""
    return "; ".join(
        f"{name}={value}" for name, value in ({"v": "DKIM1", "k": "rsa", "p": public_key(bits)} | tags).items()
    )


def faults() -> Mapping[str, Records]:
    """The records of each domain that are not as in the right one, by the first label of its name."""
    return {
        "right": {},
        "no-mx": {"mx": None},
        "null-mx": {"mx": "0 ."},
        "dead-mx": {"mx": "10 nowhere.test."},
        "no-spf": {"spf": None},
        "two-spf": {"spf": (RIGHT_SPF, "v=spf1 ip4:192.0.2.7 -all")},
        "other-spf": {"spf": "v=spf1 ip4:192.0.2.7 -all"},
        "part-spf": {"spf": "v=spf1 include:_netblocks.google.com -all"},
        "many-spf": {"spf": f"v=spf1 {_TEN_NAMES} include:_spf.google.com ~all"},
        "void-spf": {"spf": "v=spf1 a:gone1.test a:gone2.test a:gone3.test include:_spf.google.com ~all"},
        "all-spf": {"spf": "v=spf1 include:_spf.google.com +all"},
        "open-spf": {"spf": "v=spf1 include:_spf.google.com"},
        "wrong-spf": {"spf": "v=spf1 include:_spf.google.com ipv4:192.0.2.7 ~all"},
        "loop-spf": {"spf": "v=spf1 include:loop-spf.example include:_spf.google.com ~all"},
        "hollow-spf": {"spf": "v=spf1 include:mail.test include:_spf.google.com ~all"},
        "redirect-spf": {"spf": "v=spf1 redirect=_spf.google.com"},
        "no-dkim": {"dkim": None},
        "revoked-dkim": {"dkim": "v=DKIM1; k=rsa; p="},
        "short-dkim": {"dkim": dkim(1024)},
        "cut-dkim": {"dkim": dkim(p=public_key()[:200])},
        "testing-dkim": {"dkim": dkim(t="y")},
        "two-dkim": {"dkim": (dkim(), dkim(n="again"))},
        "no-dmarc": {"dmarc": None},
        "none-dmarc": {"dmarc": "v=DMARC1; p=none; rua=mailto:a@right.example"},
        "two-dmarc": {"dmarc": (RIGHT_DMARC, "v=DMARC1; p=none")},
        "wrong-dmarc": {"dmarc": "v=DMARC1; p=rejekt"},
        "lower-dmarc": {"dmarc": "v=dmarc1; p=reject"},
        "torn-dmarc": {"dmarc": "v=DMARC1 p=reject"},
        "mailto-dmarc": {"dmarc": "v=DMARC1; p=reject; rua=postmaster@right.example"},
        # Neither SPF nor DKIM, and receivers are asked to reject: who logs in is of the right domain.
        "foreign": {"spf": "v=spf1 -all", "dkim": None},
        "sub.right": {"dkim": None, "dmarc": None},
        "strict": {"dmarc": "v=DMARC1; p=reject; adkim=s; aspf=s"},
        "sub.strict": {"dkim": None, "dmarc": None, "spf": "v=spf1 -all"},
        "servers-own": {"spf": "v=spf1 ip4:192.0.2.25 -all", "dkim": None, "mail-dkim": dkim()},
        "inside": {"spf": "v=spf1 ip4:10.1.2.3 -all", "dkim": None, "mail-dkim": dkim()},
    }


def zone() -> str:
    """Every record, as a zone file has it."""
    lines = [_PROVIDERS]
    lines += [f"host{number}.many.example. IN A 192.0.2.{number + 100}" for number in range(10)]
    for name, changed in faults().items():
        lines += _domain(f"{name}.example", changed)
    return "\n".join(lines) + "\n"


def _domain(domain: str, changed: Records) -> list[str]:
    right: Records = {"mx": "10 mail.test.", "spf": RIGHT_SPF, "dkim": dkim(), "dmarc": RIGHT_DMARC, "mail-dkim": None}
    records = {**right, **changed}
    names = {
        "spf": domain,
        "dkim": f"google._domainkey.{domain}",
        "mail-dkim": f"mail._domainkey.{domain}",
        "dmarc": f"_dmarc.{domain}",
    }
    lines = [f"{domain}. IN MX {records['mx']}"] if records["mx"] else []
    for kind, name in names.items():
        texts = records[kind]
        lines += [txt_record(name, text) for text in ((texts,) if isinstance(texts, str) else texts or ())]
    return lines
