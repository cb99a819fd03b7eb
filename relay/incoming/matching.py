"""From a report of returned mail to the message in the history that it is about.

SECURITY: a report is believed to be about a message where it names its Message-ID and one of its recipients, and where
it lies in the mailbox of whoever sent it. So nobody marks another's mail, and who can forge it has seen the message. It
is shown to people, and changes nothing else: no state, no retry, no address that is sent no more.
"""

from collections.abc import Collection
from datetime import datetime

from relay import log
from relay.incoming.mailbox import Mailbox
from relay.mail.address import Address, AddressError
from relay.mail.bounce import Bounce, ReturnedCopy
from relay.store.queue.messages import ReturnRow, StoredMessage, StoredRecipient
from relay.store.queue.queue import Queue

# More messages than these never share a Message-ID, unless somebody sends one again and again.
_MOST_MESSAGES = 20


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
