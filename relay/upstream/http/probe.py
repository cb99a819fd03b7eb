"""A test of an API step by step, and an examination of it without sending: the counterparts of those by SMTP."""

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field

from relay.directory.model import Account, Auth, Security, Server
from relay.mail.address import Address, AddressError
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.secrets.secret import Secret
from relay.upstream.dial import Contexts, resolve
from relay.upstream.http.client import ApiClient
from relay.upstream.http.job import Mailbox
from relay.upstream.http.upstream import APIS, job_of, no_secret
from relay.upstream.outcome import Failed, Failure, Peer, Phase, Tls, failure_of
from relay.upstream.steps import STEPS, Step, tls_words, words_of
from relay.upstream.transaction import Progress, Timeouts, Transfer

_TIMEOUTS = Timeouts(connect=10, reply=30, final=60)


@dataclass(slots=True)
class Seen:
    """What an examination saw. `refused` has why the mailbox may not send as an address, `proven` which ones it may."""

    failure: Failure | None = None
    tls: Tls | None = None
    certificate: bytes | None = None
    has_logged_in: bool = False
    asked: list[Address] = field(default_factory=list)
    proven: set[Address] = field(default_factory=set)
    refused: dict[Address, Failure] = field(default_factory=dict)


async def probe_api(
    server: Server,
    account: Account,
    secret: Secret | None,
    sender: Address | None,
    recipient: Address | None,
    content: Content | None,
) -> AsyncGenerator[Step, None]:
    """Yield each step when it is done; the first that fails is the last.

    Without a recipient it ends after the login, and without content nothing is sent.
    """
    api, client = APIS[server.api_name], None
    try:
        yield Step("resolve", ok=True, detail=await _resolved(server))
        mailbox = _mailbox(server, account, secret, sender)
        client = await ApiClient.open(server, Contexts(), _TIMEOUTS)
        found = await api.look(client, mailbox)
        yield Step("connect", ok=True, detail=f"connected to {client.address or server.effective_host}")
        if server.effective_security is Security.TLS:
            yield Step("tls", ok=True, detail=tls_words(client.tls, client.certificate, server))
        way = " by OAuth" if server.auth is Auth.OAUTH2 else ""
        yield Step("login", ok=True, detail=f"logged in as {account.username}{way}: {found}")
        if recipient is None or sender is None:
            return
        yield Step("mail", ok=True, detail=(await api.may_send_as(client, mailbox)).words)
        if content is not None:
            transfer = Transfer(
                server=server,
                account=account,
                secret=secret,
                sender=sender,
                recipients=(Recipient(recipient),),
                content=content,
            )
            yield Step("message", ok=True, detail=f"sent: {await api.send(client, job_of(transfer, Progress()))}")
    except Failed as failed:
        yield Step(STEPS[failed.failure.phase], ok=False, detail=words_of(failed.failure), failure=failed.failure)
    finally:
        if client is not None:
            await client.aclose()


async def examine_api(server: Server, account: Account, secret: Secret | None, senders: Iterable[Address]) -> Seen:
    """Look whether an account may log in and send as these addresses. Raises nothing but CancelledError."""
    seen, api, client = Seen(), APIS[server.api_name], None
    try:
        await _resolved(server)
        mailbox = _mailbox(server, account, secret, server.identity)
        client = await ApiClient.open(server, Contexts(), _TIMEOUTS)
        await api.look(client, mailbox)
        seen.has_logged_in = True
        for sender in senders:
            try:
                if (await api.may_send_as(client, _mailbox(server, account, secret, sender))).is_proven:
                    seen.proven.add(sender)
            except Failed as failed:
                if not failed.failure.from_server:
                    raise
                seen.refused[sender] = failed.failure
            seen.asked.append(sender)
    except Failed as failed:
        seen.failure = failed.failure
    finally:
        if client is not None:
            seen.tls, seen.certificate = client.tls, client.certificate
            await client.aclose()
    return seen


async def _resolved(server: Server) -> str:
    """Return in words where the API is. Raises Failed."""
    host, port = server.effective_host, server.effective_port
    try:
        endpoints = await resolve(host, port)
    except OSError as error:
        raise Failed(failure_of(error, Phase.RESOLVE, Peer(host, port, _TIMEOUTS.connect))) from None
    return f"{host} is {', '.join(str(each) for each in endpoints)}"


def _mailbox(server: Server, account: Account, secret: Secret | None, sender: Address | None) -> Mailbox:
    """Return whose mail is looked at. Raises Failed where nobody has authorized the account."""
    if secret is None:
        raise no_secret(server)
    return Mailbox(server, account.username, sender or _own_address(account), secret.value)


def _own_address(account: Account) -> Address:
    """Return the address that logs in; where a key does, one that nobody has: its login is nobody's."""
    try:
        return Address.parse(account.username)
    except AddressError:
        return Address("nobody", "invalid")
