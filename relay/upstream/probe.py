"""A test of a server as people watch it: one step after the other, with the server's own words where one fails.

Here is also what people ask about its certificate. Deliveries only verify it, and that is not done here.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from relay.directory.model import Account, Auth, Kind, Security, Server
from relay.mail.address import Address, domain_key
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.mail.reply import clean_text
from relay.secrets.secret import Secret
from relay.upstream.connection import Connection
from relay.upstream.dial import Contexts
from relay.upstream.dialog import data, mail, rcpt
from relay.upstream.outcome import Failed, Failure, Phase, Tls
from relay.upstream.transaction import Timeouts, Transfer

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
_EMPTY = Content(b"")


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


async def probe(
    server: Server,
    account: Account,
    secret: Secret | None,
    *,
    hello: str,
    sender: Address | None,
    recipient: Address | None,
    content: Content | None,
    timeouts: Timeouts | None = None,
) -> AsyncGenerator[Step, None]:
    """Yield each step when it is done; the first that fails is the last.

    Without a recipient it ends after the login. Without content it ends after RCPT and takes both back by RSET: nothing
    is sent. A connection of its own, closed at the end whatever happens.
    """
    if server.kind is not Kind.SMTP:
        from relay.upstream.http.probe import probe_api  # noqa: PLC0415  0.2 s, for the few that need it

        async for step in probe_api(server, account, secret, sender, recipient, content):
            yield step
        return
    connection = Connection(
        server,
        hello=domain_key(hello),
        timeouts=timeouts or Timeouts(connect=10, reply=30, final=60),
        contexts=Contexts(),
    )
    recipients = (Recipient(recipient),) if recipient else ()
    transfer = Transfer(
        server=server, account=account, secret=secret, sender=sender, recipients=recipients, content=content or _EMPTY
    )
    try:
        async for step in _reach(connection, transfer):
            yield step
        async for step in _hand_over(connection, transfer, send=content is not None):
            yield step
        await connection.close()
    except Failed as failed:
        yield Step(STEPS[failed.failure.phase], ok=False, detail=words_of(failed.failure), failure=failed.failure)
    finally:
        connection.abort()


async def _reach(connection: Connection, transfer: Transfer) -> AsyncGenerator[Step, None]:
    server = connection.server
    endpoints = await connection.resolve()
    yield Step("resolve", ok=True, detail=f"{server.host} is {', '.join(str(each) for each in endpoints)}")
    yield Step("connect", ok=True, detail=f"connected to {await connection.connect(endpoints)}")
    await connection.begin()
    if server.security is not Security.NONE:
        yield Step("tls", ok=True, detail=tls_words(connection.tls, connection.certificate, server))
    await connection.hello()
    yield Step("ehlo", ok=True, detail=_offer_words(connection))
    if server.auth is not Auth.NONE:
        mechanism = await connection.login(transfer.account.username, transfer.secret)
        yield Step("login", ok=True, detail=f"logged in as {transfer.account.username} by {mechanism}")


async def _hand_over(connection: Connection, transfer: Transfer, *, send: bool) -> AsyncGenerator[Step, None]:
    if not transfer.recipients:
        return
    reply = await mail(connection, transfer)
    yield Step("mail", ok=True, detail=f"{transfer.sender or '<>'} may send: {reply}")
    reply = await rcpt(connection, transfer, 0)
    yield Step("rcpt", ok=True, detail=f"{transfer.recipients[0].address} is accepted: {reply}")
    if send:
        reply = await data(connection, transfer)
        yield Step("message", ok=True, detail=f"sent: {reply}")
    else:
        await connection.ask(Phase.RCPT, b"RSET")


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


def _offer_words(connection: Connection) -> str:
    offers = connection.offers
    words = [name.upper() for name in offers.extensions if name not in {"auth", "size"}]
    if offers.mechanisms:
        words.append("AUTH " + " ".join(name.upper() for name in offers.mechanisms))
    if offers.size:
        words.append(f"SIZE {offers.size}")
    return clean_text(", ".join(words)) or "no extensions"


def words_of(failure: Failure) -> str:
    """The server's words where it said something, else ours with the reason."""
    if failure.from_server or not failure.detail:
        return str(failure.reply)
    return f"{failure.reply.text}: {failure.detail}"


def _dns_names(certificate: x509.Certificate) -> str:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ""
    return ", ".join(str(name.value) for name in extension.value)
