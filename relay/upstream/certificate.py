"""A server's certificate as people ask about it. Deliveries only verify it, and that is not done here."""

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509


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
