"""An examination of a server with one account, and what it means. Nothing is sent.

It connects, logs in, and asks whether addresses may be used: MAIL and RCPT are all that is said about a message, and
RSET takes them back (RFC 5321 section 4.1.1.5).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from relay.directory.model import Account, Auth, Kind, Meaning, Security, Server
from relay.directory.rules.servers import is_loopback
from relay.doctor.finding import Check, Finding, bad, good, warn
from relay.doctor.providers import MailProvider, provider_of, send_as_advice
from relay.mail.address import Address, domain_key, without_case
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.secrets.secret import Secret
from relay.upstream.connection import Connection
from relay.upstream.dial import Contexts
from relay.upstream.dialog import mail, rcpt
from relay.upstream.outcome import Failed, Failure, Phase, Tls
from relay.upstream.steps import Certificate
from relay.upstream.transaction import Timeouts, Transfer

_TIMEOUTS = Timeouts(connect=10, reply=20)
_EMPTY = Content(b"")

_SOON = 14  # days: as for the certificate of our own listeners
_PROVEN = "the account may use the address, as far as MAIL and RCPT tell: nothing was sent"
# What OpenSSL says about a certificate that it does not accept, and what to do.
_CERTIFICATE_ADVICE: Mapping[str, str] = {
    "expired": "let the one who runs the server renew it",
    "not yet valid": "set this machine's clock",
    "mismatch": "write as host a name that is in the certificate, or let the server have one for this name",
    "not valid for": "write as host a name that is in the certificate, or let the server have one for this name",
    "issuer": "name the file of the authority that issued it as ca_file of the server, or let it send its whole chain",
    "self-signed": "name the certificate's own file as ca_file of the server",
    "self signed": "name the certificate's own file as ca_file of the server",
}


@dataclass(frozen=True, slots=True)
class Examination:
    """What an examination saw. `failure` is what ended it before it could ask about addresses.

    `mechanism` is "" where there was no login. `refused` has, by address, why MAIL or RCPT was refused; who is in
    `asked` and not there may send, as far as that can be asked, and who is in `proven` may whatever comes.
    """

    failure: Failure | None = None
    tls: Tls | None = None
    certificate: Certificate | None = None
    mechanism: str = ""
    asked: tuple[Address, ...] = ()
    refused: Mapping[Address, Failure] = field(default_factory=dict)
    proven: frozenset[Address] = frozenset()

    @property
    def is_turned_away(self) -> bool:
        """Whether it ended before the login, as it would for everybody."""
        return self.failure is not None and not self.mechanism and not self.is_at_login

    @property
    def is_at_login(self) -> bool:
        """Whether the server was there, and only this account's login failed."""
        return self.failure is not None and self.failure.phase is Phase.LOGIN


class _Seen:
    """What is known so far."""

    def __init__(self) -> None:
        self.certificate: Certificate | None = None
        self.mechanism = ""
        self.asked: list[Address] = []
        self.refused: dict[Address, Failure] = {}

    def examination(self, connection: Connection, failure: Failure | None = None) -> Examination:
        return Examination(
            failure, connection.tls, self.certificate, self.mechanism, tuple(self.asked), dict(self.refused)
        )


async def examine(
    server: Server,
    account: Account,
    secret: Secret | None,
    senders: Iterable[Address],
    *,
    hello: str,
    timeouts: Timeouts = _TIMEOUTS,
) -> Examination:
    """Examine a server, and ask about addresses of ours. Raises nothing but CancelledError."""
    if server.kind is not Kind.SMTP:
        return await _examine_api(server, account, secret, senders)
    seen = _Seen()
    connection = Connection(server, hello=domain_key(hello), timeouts=timeouts, contexts=Contexts())
    try:
        await _get_in(connection, account, secret, seen)
        for sender in senders:
            await _ask(
                connection,
                Transfer(
                    server=server,
                    account=account,
                    secret=secret,
                    sender=sender,
                    recipients=(Recipient(sender),),
                    content=_EMPTY,
                ),
                sender,
                seen,
            )
        if connection.needs_reset:
            await connection.ask(Phase.MAIL, b"RSET")
        await connection.close()
    except Failed as failed:
        return seen.examination(connection, failed.failure)
    finally:
        connection.abort()
    return seen.examination(connection)


async def _examine_api(
    server: Server, account: Account, secret: Secret | None, senders: Iterable[Address]
) -> Examination:
    from relay.upstream.http.probe import examine_api  # noqa: PLC0415  0.1 s, for the few that need it

    seen = await examine_api(server, account, secret, senders)
    certificate = _parsed(seen.certificate) if seen.certificate is not None else None
    shown = "an access token" if server.auth is Auth.OAUTH2 else "a key"
    mechanism = shown if seen.has_logged_in else ""
    proven = frozenset(seen.proven)
    return Examination(seen.failure, seen.tls, certificate, mechanism, tuple(seen.asked), seen.refused, proven)


async def _get_in(connection: Connection, account: Account, secret: Secret | None, seen: _Seen) -> None:
    await connection.connect(await connection.resolve())
    await connection.begin()
    if connection.certificate is not None:
        seen.certificate = _parsed(connection.certificate)
    await connection.hello()
    seen.mechanism = str(await connection.login(account.username, secret))


async def _ask(connection: Connection, transfer: Transfer, sender: Address, seen: _Seen) -> None:
    """Ask about one address. Raises Failed only where the connection is lost by it."""
    try:
        await mail(connection, transfer)
        await rcpt(connection, transfer, 0)
    except Failed as failed:
        if not connection.is_usable:
            raise
        seen.refused[sender] = failed.failure
    seen.asked.append(sender)


def _parsed(der: bytes) -> Certificate | None:
    try:
        return Certificate.parse(der)
    except ValueError:
        return None


def check_server(server: Server, seen: Examination) -> tuple[Finding, ...]:
    """Return the findings that hold for everybody who sends through the server."""
    failure = seen.failure
    if failure is not None and failure.phase in {Phase.RESOLVE, Phase.CONNECT, Phase.GREETING, Phase.EHLO}:
        fix = "check host, port and security of the server, and whether this machine's firewall lets it out"
        return (bad(Check.SERVER, _words(failure), fix),)
    reached = good(Check.SERVER, f"{server.effective_host} answers on port {server.effective_port}")
    if failure is not None and failure.phase is Phase.STARTTLS:
        return (reached, _broken_tls(failure))
    return (reached, *_certificate(server, seen), *_tls(server, seen))


def check_login(server: Server, seen: Examination, *, command: str) -> Finding | None:
    """Return the finding about an account's login; None where there is none, or it never came to one.

    `command` is the one that sets its password.
    """
    if seen.mechanism:
        return good(Check.LOGIN, f"the login works ({seen.mechanism})") if server.auth is not Auth.NONE else None
    if seen.failure is None or not seen.is_at_login:
        return None
    words = _words(seen.failure)
    if not seen.failure.from_server:
        return bad(Check.LOGIN, words, "choose an auth that the server offers, and see that the connection has TLS")
    if seen.failure.meaning is Meaning.LOGIN_REFUSED:
        return bad(Check.LOGIN, f"the login is refused: {words}", f"set what is right with: {command}")
    return warn(Check.LOGIN, f"the login does not work now: {words}", "try again later")


def check_send_as(server: Server, seen: Examination, sender: Address, username: str, *, command: str) -> Finding | None:
    """Return whether the account may use an address, as far as that is known without sending; None: it was not asked.

    `command` is the one that sends a test message.
    """
    refusal = seen.refused.get(sender)
    if refusal is not None:
        return _refused(server, sender, refusal)
    if sender not in seen.asked:
        return _lost(seen.failure) if seen.failure and seen.failure.phase in {Phase.MAIL, Phase.RCPT} else None
    if sender in seen.proven:
        return good(Check.SEND_AS, "the account may use the address; nothing was sent")
    if (provider := _late_judge(server, sender, username)) is not None:
        why = f"{sender} is accepted so far, but {provider.name} judges From only when a message is sent"
        return warn(Check.SEND_AS, why, f"{provider.send_as}; then see with: {command}")
    return good(Check.SEND_AS, _PROVEN)


def may_send_as(server: Server, sender: Address, username: str) -> str:
    """Return in a sentence what it proves that MAIL and RCPT were accepted for one of our addresses."""
    if (provider := _late_judge(server, sender, username)) is not None:
        return f"accepted so far; {provider.name} judges From only when a message is sent: test without --no-send"
    return _PROVEN


def _refused(server: Server, sender: Address, refusal: Failure) -> Finding:
    words = _words(refusal)
    if refusal.meaning is Meaning.LOGIN_REFUSED:
        return bad(Check.SEND_AS, f"the server asks for a login: {words}", "set auth and username of the server")
    if refusal.phase is Phase.RCPT and refusal.meaning is not Meaning.IDENTITY_REFUSED:
        fix = "make sure that the mailbox exists: it is where answers and bounces go"
        return warn(Check.SEND_AS, f"the address may be used, but mail to {sender} is not accepted: {words}", fix)
    if not refusal.reply.is_permanent:
        return warn(Check.SEND_AS, f"whether {sender} may be used is not known: {words}", "try again later")
    return bad(Check.SEND_AS, f"the account may not use {sender}: {words}", send_as_advice(server.effective_host))


def _lost(failure: Failure) -> Finding:
    return warn(Check.SEND_AS, f"the server broke off: {_words(failure)}", "try again later")


def _late_judge(server: Server, sender: Address, username: str) -> MailProvider | None:
    """Return the provider, where it refuses addresses later than at RCPT, and this is not the account's own."""
    provider = provider_of(urlsplit(server.kind.api_url).hostname or server.effective_host)
    return provider if provider and provider.checks_late and not _is_own(sender, username) else None


def _is_own(sender: Address, username: str) -> bool:
    return sender.without_tag.key == without_case(username) or without_case(str(sender)) == without_case(username)


def _broken_tls(failure: Failure) -> Finding:
    words = _words(failure)
    if "certificate" in words.lower():
        fix = next((fix for said, fix in _CERTIFICATE_ADVICE.items() if said in words), "")
        return bad(Check.CERTIFICATE, words, fix or "ask whoever runs the server to correct its certificate")
    fix = (
        'choose the security that the port speaks ("tls" on 465, "starttls" on 587), or a server with TLS 1.2 or newer'
    )
    return bad(Check.TLS, words, fix)


def _certificate(server: Server, seen: Examination) -> tuple[Finding, ...]:
    if server.effective_security is Security.NONE:
        return ()
    if seen.certificate is None:
        why = f"the certificate of {server.effective_host} cannot be read"
        return (warn(Check.CERTIFICATE, why, "ask whoever runs the server to correct it"),)
    days = seen.certificate.days_left()
    if not server.verify_tls:
        why = "nobody checks the certificate (verify_tls = false), so the password may go to anybody"
        return (warn(Check.CERTIFICATE, why, "name the authority as ca_file of the server, and set verify_tls = true"),)
    if days < _SOON:
        why = f"the certificate of {server.effective_host} expires in {days} days"
        return (warn(Check.CERTIFICATE, why, "let the one who runs the server renew it"),)
    return (good(Check.CERTIFICATE, f"the certificate is valid for {days} more days"),)


def _tls(server: Server, seen: Examination) -> tuple[Finding, ...]:
    if seen.tls is not None:
        return (good(Check.TLS, f"the connection is protected by {seen.tls.version}"),)
    if is_loopback(server.effective_host):
        return (good(Check.TLS, "the server is on this machine, and needs no TLS"),)
    why = "the connection is not protected, so that others can read the mail and change it"
    return (warn(Check.TLS, why, 'set security = "starttls" or "tls" where the server has it'),)


def _words(failure: Failure) -> str:
    """The server's words where it said something, else ours with the reason."""
    if failure.from_server or not failure.detail:
        return str(failure.reply)
    return f"{failure.reply.text}: {failure.detail}"
