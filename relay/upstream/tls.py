"""TLS towards servers: at least 1.2 (RFC 8997), names checked (RFC 7817), contexts made once and kept.

SECURITY: `verify_tls = false` encrypts without knowing to whom; it is the directory's explicit choice.
"""

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509


class Contexts:
    """The TLS contexts, one for each (verify, CA file). A CA file that changed is read again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bool, str], tuple[int, ssl.SSLContext]] = {}

    async def get(self, *, verify: bool, ca_file: str) -> ssl.SSLContext:
        """Return the context. Raises OSError (ssl.SSLError is one) for a CA file that cannot be used."""
        changed = _changed(ca_file)
        kept = self._kept.get((verify, ca_file))
        if kept is None or kept[0] != changed:
            # Reading the system's CA bundle takes tens of milliseconds: not in the event loop.
            kept = (changed, await asyncio.to_thread(_make_context, verify=verify, ca_file=ca_file))
            self._kept[verify, ca_file] = kept
        return kept[1]


def _changed(ca_file: str) -> int:
    return Path(ca_file).stat().st_mtime_ns if ca_file else 0


def _make_context(*, verify: bool, ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a person wants to know about a server's certificate."""

    subject: str
    issuer: str
    expires: datetime

    @classmethod
    def parse(cls, der: bytes) -> "Certificate":
        """Return the facts of a certificate in DER. Raises ValueError."""
        certificate = x509.load_der_x509_certificate(der)
        names = _dns_names(certificate)
        subject = certificate.subject.rfc4514_string() or names
        return cls(subject, certificate.issuer.rfc4514_string(), certificate.not_valid_after_utc)

    def days_left(self, now: datetime | None = None) -> int:
        """Whole days until it expires; negative once it has."""
        return (self.expires - (now or datetime.now(UTC))).days


def _dns_names(certificate: x509.Certificate) -> str:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ""
    return ", ".join(str(name.value) for name in extension.value)
