"""Delivers what goes by a provider's API: the counterpart of `relay.upstream.pool` for servers that speak no SMTP.

Each account has a client of its own, whose connections are kept while it sends and for a while after. How many requests
go at once, the same slots say that count SMTP connections. Where an attempt was made before, or an answer is lost, the
provider is asked whether it has sent the message, before it is sent again.

Imported where the first such message leaves: httpx2 takes 0.1 s and 2 MB, and most relays need no API.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from relay import log
from relay.directory.model import Account, Auth, Meaning, Server
from relay.mail.reply import Reply
from relay.system.clock import utc_now
from relay.upstream.connections import Slots
from relay.upstream.dial import Contexts
from relay.upstream.http.client import ApiClient
from relay.upstream.http.gmail import Gmail
from relay.upstream.http.graph import Graph
from relay.upstream.http.job import Api, ApiMessage, Job, Mailbox
from relay.upstream.http.mailgun import Mailgun
from relay.upstream.http.ses import Ses
from relay.upstream.outcome import Failed, Failure, Outcome, Phase, own_failure
from relay.upstream.transaction import Progress, Timeouts, Transfer

APIS: Mapping[str, Api] = MappingProxyType({"msgraph": Graph(), "gmail": Gmail(), "ses": Ses(), "mailgun": Mailgun()})
"""The APIs, by `Server.api_name`."""

_ASKING_SECONDS = 30.0
_SKEW = timedelta(minutes=1)  # by how much the provider's clock may be behind ours
_NO_TOKEN = Reply(535, "5.7.8", "There is no access token for this account")
_NO_KEY = Reply(535, "5.7.8", "There is no password for this account")


@dataclass(slots=True)
class _Kept:
    """The client of one account, how many use it, and the timer that ends it when nobody does for long."""

    client: ApiClient
    users: int = 0
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class ApiUpstream:
    """The way out by APIs. `slots_of` returns the slots of a scope, `drop_slots` forgets them where nobody has one."""

    timeouts: Timeouts
    contexts: Contexts
    slots_of: Callable[[str], Slots]
    drop_slots: Callable[[Slots], None]
    _kept: dict[Account, _Kept] = field(default_factory=dict)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)
    _users: int = 0
    _is_closed: bool = False

    @property
    def under_way(self) -> int:
        """How many messages are being handed over, or wait for their turn."""
        return self._users

    def connections(self) -> Mapping[Account, int]:
        """How many requests each account makes now."""
        return {account: kept.users for account, kept in self._kept.items()}

    async def deliver(self, transfer: Transfer, progress: Progress) -> Outcome:
        """Hand a message over and return what came of it, as `Upstream.deliver`: all recipients have it, or nobody."""
        host = transfer.server.effective_host
        self._users += 1
        try:
            async with self._slot(transfer), self._client(transfer) as client:
                try:
                    reply = await self._hand_over(client, transfer, progress)
                except Failed as failed:
                    if failed.failure.phase is not Phase.FINAL:
                        progress.final_dot_sent = False  # the provider said no: nobody has it
                    return Outcome(host=host, failure=failed.failure, tls=client.tls)
                return Outcome(host=host, accepted=reply, tls=client.tls)
        except Failed as failed:
            return Outcome(host=host, failure=failed.failure)
        finally:
            self._users -= 1

    async def aclose(self) -> None:
        """Close the connections of all accounts; those in use when they are free."""
        self._is_closed = True
        for account, kept in tuple(self._kept.items()):
            if not kept.users:
                self._end(account, kept)
        if self._closing:
            await asyncio.wait(set(self._closing))

    async def _hand_over(self, client: ApiClient, transfer: Transfer, progress: Progress) -> Reply:
        api, job, began = APIS[transfer.server.api_name], job_of(transfer, progress), utc_now()
        progress.phase = Phase.MAIL
        if transfer.since is not None and await _has(api, client, job, transfer.since - _SKEW):
            return _FOUND
        await progress.note_mail()
        try:
            return await api.send(client, job)
        except Failed as failed:
            if failed.failure.phase is not Phase.FINAL or failed.failure.meaning is not Meaning.UNKNOWN:
                raise
            if await _was_sent(api, client, job, began - _SKEW, failed.failure):
                return _FOUND
            raise

    @asynccontextmanager
    async def _slot(self, transfer: Transfer) -> AsyncGenerator[None, None]:
        """Take one of the requests that the provider allows at once."""
        server = transfer.server
        slots = self.slots_of(server.scope(transfer.account))
        await slots.take(server.max_connections)
        slots.begin_request()
        try:
            yield
        finally:
            slots.end_request()
            slots.give_back()
            self.drop_slots(slots)

    @asynccontextmanager
    async def _client(self, transfer: Transfer) -> AsyncGenerator[ApiClient, None]:
        account, server = transfer.account, transfer.server
        kept = self._usable(account, server)
        if kept is None:
            client = await ApiClient.open(server, self.contexts, self.timeouts)
            kept = self._usable(account, server)  # another message of the account may have opened one meanwhile
            if kept is None:
                kept = self._kept[account] = _Kept(client)
            else:
                self._close(client)
        kept.users += 1
        kept.client.server = server
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None
        try:
            yield kept.client
        finally:
            kept.users -= 1
            if not kept.users:
                self._rest(account, kept)

    def _usable(self, account: Account, server: Server) -> _Kept | None:
        """Return the client of an account, None where there is none or the server's settings are others now."""
        kept = self._kept.get(account)
        if kept is None or not _is_other(kept.client.server, server):
            return kept
        if not kept.users:
            self._end(account, kept)
        return None

    def _rest(self, account: Account, kept: _Kept) -> None:
        """Let a client go that nobody uses: at once where another took its place or all is over, else after a while."""
        if self._kept.get(account) is not kept or self._is_closed:
            self._end(account, kept)
            return
        loop = asyncio.get_running_loop()
        kept.timer = loop.call_later(self.timeouts.idle, self._end, account, kept)

    def _end(self, account: Account, kept: _Kept) -> None:
        if kept.timer is not None:
            kept.timer.cancel()
        if self._kept.get(account) is kept:
            del self._kept[account]
        self._close(kept.client)

    def _close(self, client: ApiClient) -> None:
        task = asyncio.get_running_loop().create_task(client.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


_FOUND = Reply.of_upstream(250, "2.0.0 sent already: the provider has it among the messages that were sent")


def job_of(transfer: Transfer, progress: Progress) -> Job:
    """Return what an API is asked to do with a transfer. Raises Failed for what it cannot be told."""
    if transfer.secret is None:
        raise no_secret(transfer.server)
    assert transfer.sender is not None  # Server.takes_null_sender
    mailbox = Mailbox(transfer.server, transfer.account.username, transfer.sender, transfer.secret.value)
    return Job(mailbox, ApiMessage.of(transfer), progress)


def no_secret(server: Server) -> Failed:
    """Return the refusal of a login for which we have nothing to show."""
    reply = _NO_TOKEN if server.auth is Auth.OAUTH2 else _NO_KEY
    return Failed(own_failure(Phase.LOGIN, reply, Meaning.LOGIN_REFUSED))


async def _has(api: Api, client: ApiClient, job: Job, since: datetime) -> bool:
    """Whether the provider has sent the message in an attempt before. Raises Failed where it cannot be asked now.

    Where the token may not look, or is refused, sending is what tells more: docs/guarantees.md says what follows.
    """
    try:
        return await api.has(client, job, since)
    except Failed as failed:
        if failed.failure.from_server and failed.failure.meaning in {Meaning.LOGIN_REFUSED, Meaning.IDENTITY_REFUSED}:
            log.warned(
                "nobody can tell whether the provider has sent this message already: the token may not look",
                server=job.mailbox.server.name,
                why=failed.failure.why,
            )
            return False
        raise


async def _was_sent(api: Api, client: ApiClient, job: Job, since: datetime, lost: Failure) -> bool:
    """Ask at once after a lost answer. Where that brings nothing, the next attempt asks again."""
    try:
        async with asyncio.timeout(_ASKING_SECONDS):
            return await api.has(client, job, since)
    except (Failed, TimeoutError):
        log.warned(
            "an answer was lost, and the provider does not say more", server=job.mailbox.server.name, why=lost.why
        )
        return False


def _is_other(one: Server, other: Server) -> bool:
    """Whether the connections of one server's settings may not be used with those of the other."""
    return one is not other and any(
        getattr(one, key) != getattr(other, key) for key in ("kind", "api", "host", "api_url", "verify_tls", "ca_file")
    )
