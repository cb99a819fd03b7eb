"""A test of a server as people watch it: one step after the other, with the server's own words where one fails."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import TypeAlias

from relay.directory.model import Account, Auth, Kind, Security, Server
from relay.mail.address import Address, domain_key
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.mail.reply import clean_text
from relay.secrets.secret import Secret
from relay.system.process import in_short_turns
from relay.upstream.connection import Connection
from relay.upstream.dial import Contexts
from relay.upstream.dialog import data, mail, rcpt
from relay.upstream.outcome import Failed, Failure, Phase
from relay.upstream.steps import STEPS, Step, tls_words, words_of
from relay.upstream.transaction import Timeouts, Transfer

_EMPTY = Content(b"")

ProbeApi: TypeAlias = Callable[
    [Server, Account, Secret | None, Address | None, Address | None, Content | None], AsyncGenerator[Step, None]
]


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
        async for step in (await in_short_turns(_load_probe_api))(server, account, secret, sender, recipient, content):
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


async def reach(server: Server, hello: str, timeouts: Timeouts) -> Failure | None:
    """Return why a connection up to EHLO failed, or up to TCP of a server with an API; None: the server is there."""
    is_smtp = server.kind is Kind.SMTP
    at = replace(server, kind=Kind.SMTP, host=server.effective_host, port=server.effective_port)
    connection = Connection(at, hello=domain_key(hello), timeouts=timeouts, contexts=Contexts())
    try:
        await connection.connect(await connection.resolve())
        if is_smtp:
            await connection.begin()
            await connection.hello()
            await connection.close()
        return None
    except Failed as failed:
        return failed.failure
    finally:
        connection.abort()


def _load_probe_api() -> "ProbeApi":
    from relay.upstream.http.probe import probe_api  # noqa: PLC0415  0.1 s, for the few that need it

    return probe_api


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


def _offer_words(connection: Connection) -> str:
    offers = connection.offers
    words = [name.upper() for name in offers.extensions if name not in {"auth", "size"}]
    if offers.mechanisms:
        words.append("AUTH " + " ".join(name.upper() for name in offers.mechanisms))
    if offers.size:
        words.append(f"SIZE {offers.size}")
    return clean_text(", ".join(words)) or "no extensions"
