"""The steps of a test in the words that people read, and what they ask about a server's certificate.

Deliveries only verify it, and that is not done here.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from relay.directory.model import Server
from relay.upstream.outcome import Failure, Phase, Tls

if TYPE_CHECKING:
    from cryptography import x509

STEPS = {
    Phase.RESOLVE: "resolve",
    Phase.CONNECT: "connect",
    Phase.STARTTLS: "tls",
    Phase.GREETING: "ehlo",
    Phase.EHLO: "ehlo",
    Phase.LOGIN: "login",
    Phase.MAIL: "mail",
    Phase.RCPT: "rcpt",
    Phase.DATA: "message",
    Phase.CONTENT: "message",
    Phase.FINAL: "message",
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a person wants to know about a server's certificate."""

    subject: str
    issuer: str
    expires: datetime

    @classmethod
    def parse(cls, der: bytes) -> "Certificate":
        """Return the facts of a certificate in DER. Raises ValueError."""
        from cryptography import x509  # noqa: PLC0415  for tests and the doctor alone

        certificate = x509.load_der_x509_certificate(der)
        names = _dns_names(certificate)
        subject = certificate.subject.rfc4514_string() or names
        return cls(subject, certificate.issuer.rfc4514_string(), certificate.not_valid_after_utc)

    def days_left(self, now: datetime | None = None) -> int:
        """Whole days until it expires; negative once it has."""
        return (self.expires - (now or datetime.now(UTC))).days


@dataclass(frozen=True, slots=True)
class Step:
    """One step: "resolve", "connect", "tls", "ehlo", "login", "mail", "rcpt" or "message".

    `detail` is for people: an address, the TLS version and certificate, the server's words, or what went wrong.
    `failure` is what went wrong, for whoever has advice.
    """

    step: str
    ok: bool
    detail: str
    failure: Failure | None = None


def tls_words(tls: Tls | None, der: bytes | None, server: Server) -> str:
    """Return how a connection is encrypted, and what is to be known of the certificate in DER."""
    if tls is None or der is None:
        return "encrypted"
    try:
        certificate = Certificate.parse(der)
    except ValueError as error:
        return f"{tls.version}, {tls.cipher}; its certificate cannot be read: {error}"
    days = certificate.days_left()
    when = f"valid for {days} more days" if days >= 0 else f"expired {-days} days ago"
    checked = "" if server.verify_tls else " (not checked: verify_tls = false)"
    return f"{tls.version}, {tls.cipher}; certificate of {certificate.subject} by {certificate.issuer}, {when}{checked}"


def words_of(failure: Failure) -> str:
    """The server's words where it said something, else ours with the reason."""
    if failure.from_server or not failure.detail:
        return str(failure.reply)
    return f"{failure.reply.text}: {failure.detail}"


def _dns_names(certificate: "x509.Certificate") -> str:
    from cryptography import x509  # noqa: PLC0415

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ""
    return ", ".join(str(name.value) for name in extension.value)
