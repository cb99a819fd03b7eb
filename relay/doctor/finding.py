"""What the doctor finds: one fact about a server, an account or a domain, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum

from relay.mail.reply import clean_text


class Level(StrEnum):
    """How bad it is. What is bad keeps mail from arriving; a warning may, now or soon."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


class Check(StrEnum):
    """What was looked at, in the order in which people read it."""

    SERVER = "server"
    CERTIFICATE = "certificate"
    TLS = "tls"
    LOGIN = "login"
    SEND_AS = "send-as"
    MX = "mx"
    SPF = "spf"
    DKIM = "dkim"
    DMARC = "dmarc"
    ALIGNMENT = "alignment"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `why` and `fix` are a sentence each; `fix` is "" exactly where all is good.

    `record` is a DNS record to publish, as a zone file has it, or "".
    """

    check: Check
    level: Level
    why: str
    fix: str = ""
    record: str = ""

    def __post_init__(self) -> None:
        if (self.level is Level.GOOD) != (not self.fix):
            raise ValueError("what is not good needs a fix, and only that")
        if any(text != clean_text(text) for text in (self.why, self.fix, self.record)):
            raise ValueError("a finding holds no control characters")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The findings of one check, and whether it lets DMARC pass: None where that cannot be known.

    `domain` is the domain that it speaks for: that of the envelope for SPF, that which signs for DKIM.
    """

    findings: tuple[Finding, ...]
    passes: bool | None
    domain: str


def good(check: Check, why: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Level.GOOD, clean_text(why))


def warn(check: Check, why: str, fix: str, record: str = "") -> Finding:
    """Return a warning."""
    return Finding(check, Level.WARN, clean_text(why), clean_text(fix), clean_text(record))


def bad(check: Check, why: str, fix: str, record: str = "") -> Finding:
    """Return a finding that something keeps mail from arriving."""
    return Finding(check, Level.BAD, clean_text(why), clean_text(fix), clean_text(record))


def txt_record(name: str, value: str) -> str:
    """Return a TXT record as a zone file has it, in strings of at most 255 octets (RFC 1035 section 3.3.14)."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    strings = [escaped[start : start + 250] for start in range(0, len(escaped), 250)] or [""]
    return f"{name}. IN TXT " + " ".join(f'"{string}"' for string in strings)
