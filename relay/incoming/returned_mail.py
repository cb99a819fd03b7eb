"""Returned mail: looks into the mailboxes that say `watch_bounces`, once a minute each, for reports about our messages.

A mailbox is read from where it was read before, and from now on at the first time: a hundred thousand old mails cost
nothing. The mails stay where they are, unread. A report that is read twice changes nothing. What
a report says is kept with the message in the history that it is about.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from relay import log
from relay.directory.directory import Directory
from relay.incoming.mailbox import Mailbox, watched_mailboxes
from relay.incoming.reader import INBOX, MailboxFailed, MailboxRefused, MailboxState, Reader
from relay.mail.address import Address, AddressError
from relay.mail.bounce import MOST_OCTETS, Bounce, ReturnedCopy, may_be_bounce, read_bounce
from relay.secrets.resolver import SecretResolver
from relay.secrets.sources import SecretUnavailable
from relay.store.cluster.leases import Lead, Unrivalled
from relay.store.db.errors import StoreError
from relay.store.queue.messages import ReturnRow, StoredMessage, StoredRecipient
from relay.store.queue.queue import Queue
from relay.system.process import in_short_turns

if TYPE_CHECKING:
    from relay.incoming.open_mailbox import Mailboxes

_EVERY_SECONDS = 60.0
_MOST_SECONDS = 3600.0
# How often a new password is looked for after a refusal. What comes back before the first login would be taken for old.
_SECRET_SECONDS = 2.0
_LOOK_SECONDS = 300.0
_LEAD_SECONDS = 1.0  # before we look again whether the lead is ours
_AT_ONCE = 4
# The history is written behind: a report may be here before its message is.
_MOST_UNMATCHED = 100

# More messages than these never share a Message-ID, unless somebody sends one again and again.
_MOST_MESSAGES = 20


@dataclass(slots=True)
class _Watched:
    """A mailbox under watch. `refused` is the version of the secret that its server refused."""

    mailbox: Mailbox
    task: asyncio.Task[None] | None = None
    checked: datetime | None = None
    reason: str = ""
    failures: int = 0
    refused: str | None = None
    unmatched: deque[Bounce] = field(default_factory=lambda: deque(maxlen=_MOST_UNMATCHED))


def _wanted(directory: Directory) -> dict[str, Mailbox]:
    """Return the mailboxes to watch, by their owners."""
    return {mailbox.owner: mailbox for mailbox in watched_mailboxes(directory)}


class ReturnedMail:
    """Watches mailboxes. `follow` begins, and follows the directory; `rest` watches none until then, `aclose` ends it.

    Of several processes that use the store the one that has the `lead` watches.
    """

    def __init__(
        self,
        queue: Queue,
        secrets: SecretResolver,
        directory: Callable[[], Directory],
        lead: Lead | None = None,
        *,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._queue = queue
        self._secrets = secrets
        self._directory = directory
        self._lead = lead or Unrivalled()
        self._every = every_seconds
        self._mailboxes: Mailboxes | None = None
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._watched: dict[str, _Watched] = {}
        self._is_closed = False

    def refresh(self) -> None:
        """Watch the mailboxes that the directory names now; those that changed are begun anew."""
        self._take(_wanted(self._directory()))

    async def follow(self) -> None:
        """Do the same; the loop goes on while very many agents are looked at."""
        self._take(await in_short_turns(_wanted, self._directory()))

    def _take(self, wanted: Mapping[str, Mailbox]) -> None:
        if self._is_closed:
            return
        for owner, watched in list(self._watched.items()):
            if wanted.get(owner) != watched.mailbox:
                del self._watched[owner]
                if watched.task is not None:
                    watched.task.cancel()
        for owner in wanted.keys() - self._watched.keys():
            watched = self._watched[owner] = _Watched(wanted[owner])
            watched.task = asyncio.get_running_loop().create_task(self._watch(watched))

    async def rest(self) -> None:
        """Watch none, until `follow` or `refresh`; no mailbox is open when this returns."""
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """Watch nothing more."""
        self._is_closed = True
        await self.rest()
        if self._mailboxes is not None:
            await self._mailboxes.aclose()

    def status(self) -> list[MailboxState]:
        """Return how each mailbox is, in the order of their owners."""
        return [
            MailboxState(
                owner=f"{watched.mailbox.kind}/{watched.mailbox.name}",
                host=watched.mailbox.incoming.host,
                state="failing" if watched.reason else "ok" if watched.checked else "new",
                checked=f"{watched.checked:%Y-%m-%dT%H:%M:%SZ}" if watched.checked else None,
                reason=watched.reason,
            )
            for _, watched in sorted(self._watched.items())
        ]

    async def _watch(self, watched: _Watched) -> None:
        while True:
            if not self._lead.is_ours:  # another reads it, or will in a moment
                await asyncio.sleep(_LEAD_SECONDS)
                continue
            try:
                async with self._slots, asyncio.timeout(_LOOK_SECONDS):
                    await self._check(watched)
            except TimeoutError:
                self._failed(watched, f"{watched.mailbox}: it takes longer than {_LOOK_SECONDS:g} seconds")
            except (MailboxFailed, SecretUnavailable, StoreError) as error:
                self._failed(watched, str(error))
            else:
                self._succeeded(watched)
            await self._pause(watched)

    def _opened(self) -> "Mailboxes":
        """Return what opens mailboxes. Loaded with the first of them: most relays watch none."""
        if self._mailboxes is None:
            from relay.incoming.open_mailbox import Mailboxes  # noqa: PLC0415

            self._mailboxes = Mailboxes()
        return self._mailboxes

    async def _check(self, watched: _Watched) -> None:
        mailbox = watched.mailbox
        secret = await self._secrets.secret(mailbox.ref)
        position = await self._queue.position(mailbox.identity)
        try:
            renew = partial(self._secrets.renewed, mailbox.ref)
            async with self._opened().open(mailbox, secret, renew) as opened:
                bounces, after = await opened.run(lambda reader: _look(reader, position))
        except MailboxRefused:
            watched.refused = secret.version if secret else ""
            raise
        await self._match(watched, bounces)
        if after != position:
            await self._queue.put_position(mailbox.identity, after, self._lead.lease)

    async def _match(self, watched: _Watched, bounces: list[Bounce]) -> None:
        """Match what is new, and once more what was before its message."""
        earlier = [watched.unmatched.popleft() for _ in range(len(watched.unmatched))]
        for bounce in earlier:
            await record_return(self._queue, watched.mailbox, bounce, datetime.now(UTC))
        for bounce in bounces:
            if not await record_return(self._queue, watched.mailbox, bounce, datetime.now(UTC)):
                watched.unmatched.append(bounce)

    async def _pause(self, watched: _Watched) -> None:
        """Wait for the next look: longer after each failure, and after a refused login for another password.

        A server that is asked with a wrong password over and over locks the account.
        """
        seconds = min(self._every * 2 ** min(watched.failures, 16), max(_MOST_SECONDS, self._every))
        if watched.refused is None:
            await asyncio.sleep(seconds if watched.failures else self._every)
            return
        # Only the vault may be asked so often: a command would run each time.
        pause = self._every if watched.mailbox.ref.source else min(self._every, _SECRET_SECONDS)
        waited = 0.0
        while waited < _MOST_SECONDS and not await self._has_new_secret(watched):
            await asyncio.sleep(pause)
            waited += pause
        watched.refused = None

    async def _has_new_secret(self, watched: _Watched) -> bool:
        with suppress(SecretUnavailable, StoreError):
            return (await self._secrets.version(watched.mailbox.ref) or "") != watched.refused
        return False

    def _failed(self, watched: _Watched, reason: str) -> None:
        watched.failures += 1
        if reason != watched.reason:  # once, not with every look
            log.warned(f"returned mail is not looked for: {reason}")
        watched.reason = reason

    def _succeeded(self, watched: _Watched) -> None:
        if watched.reason:
            log.changed(what="mailbox", owner=watched.mailbox.owner, state="is read again")
        watched.checked, watched.reason, watched.failures = datetime.now(UTC), "", 0


def _look(reader: Reader, position: str | None) -> tuple[list[Bounce], str]:
    """Return the reports behind a position, and the position behind them. It blocks. Raises MailboxFailed."""
    if position is None:
        return [], reader.position(INBOX)
    arrivals = reader.arrivals(INBOX, position)
    found = [
        read_bounce(reader.content(INBOX, head.uid, MOST_OCTETS))
        for head in arrivals.heads
        if may_be_bounce(head.header)
    ]
    return [bounce for bounce in found if bounce is not None], arrivals.position


async def record_return(queue: Queue, mailbox: Mailbox, bounce: Bounce, now: datetime) -> bool:
    """Keep what a report says with the message that it is about; False where we know of none. Raises StoreError."""
    for message_id in bounce.message_ids:
        found = await queue.search(message_id=message_id, limit=_MOST_MESSAGES)
        for message in found:
            if _is_sent_by(mailbox, message):
                matched = [(copy, one) for copy in bounce.copies if (one := _recipient(message, copy)) is not None]
                for copy, recipient in matched:
                    await _keep(queue, message, recipient, copy, now)
                if matched:
                    return True
    return False


async def _keep(
    queue: Queue, message: StoredMessage, recipient: StoredRecipient, copy: ReturnedCopy, now: datetime
) -> None:
    row = ReturnRow(number=recipient.number, found=now, status=copy.status, words=copy.words, reporter=copy.reporter)
    if await queue.add_return(message.id, row):
        log.returned(
            id=message.id,
            message_id=message.message_id or None,
            profile=message.profile,
            recipient=str(recipient.recipient.address),
            status=copy.status,
            reply=copy.words or None,
            reporter=copy.reporter or None,
        )


def _is_sent_by(mailbox: Mailbox, message: StoredMessage) -> bool:
    """Whether reports about a message come to this mailbox: the sender's, or that of the server's own account."""
    if mailbox.kind != "server":
        return message.profile == mailbox.name
    return message.server == mailbox.name and message.username == mailbox.account


def _recipient(message: StoredMessage, copy: ReturnedCopy) -> StoredRecipient | None:
    keys = _keys(copy.addresses)
    return next((one for one in message.recipients if one.recipient.address.key in keys), None)


def _keys(addresses: Collection[str]) -> frozenset[str]:
    found = set()
    for text in addresses:
        try:
            found.add(Address.parse(text).key)
        except AddressError:
            continue
    return frozenset(found)
