"""An examination of a server with one account: it connects, logs in, and asks whether addresses may be used.

Nothing is sent. MAIL and RCPT are all that is said about a message, and RSET takes them back (RFC 5321 section 4.1.1.5).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from relay.directory.model import Account, Server
from relay.mail.address import Address, domain_key
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.secrets.secret import Secret
from relay.upstream.connection import Connection
from relay.upstream.dial import Contexts
from relay.upstream.dialog import mail, rcpt
from relay.upstream.outcome import Failed, Failure, Phase, Tls
from relay.upstream.probe import Certificate
from relay.upstream.transaction import Timeouts, Transfer

_TIMEOUTS = Timeouts(connect=10, reply=20)
_EMPTY = Content(b"")


@dataclass(frozen=True, slots=True)
class Examination:
    """What an examination saw. `failure` is what ended it before it could ask about addresses.

    `mechanism` is "" where there was no login. `refused` has, by address, why MAIL or RCPT was refused; who is in
    `asked` and not there may send.
    """

    failure: Failure | None = None
    tls: Tls | None = None
    certificate: Certificate | None = None
    mechanism: str = ""
    asked: tuple[Address, ...] = ()
    refused: Mapping[Address, Failure] = field(default_factory=dict)

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
