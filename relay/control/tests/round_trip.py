"""The round trip: a test message is looked for where it should arrive, and what its receiver saw of it is told.

The mailbox is opened before anything is sent, so that a wrong password costs no message. The message is known by an
unguessable token, and so is the one that is deleted at the end.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from relay.control.context import ControlContext
from relay.control.tests.last_tests import Steps
from relay.control.tests.results import StepRecord
from relay.incoming.mailbox import Mailbox
from relay.incoming.open_mailbox import Mailboxes, OpenMailbox
from relay.incoming.reader import Folder, Head, MailboxFailed, Reader
from relay.mail.address import Address
from relay.mail.authentication_results import ReceiverVerdict, receivers_verdicts
from relay.mail.content import Content
from relay.mail.header import Field, Header
from relay.mail.mailbox import MailboxFault, parse_from
from relay.mail.mime import Fields, MimePart, value_of
from relay.mail.trace import format_date, message_id, new_id
from relay.secrets.sources import SecretUnavailable

TOKEN_FIELD = "X-Relay-Test"  # noqa: S105 - a name
_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 2.0
_LONGER_PAUSE_SECONDS = 5.0  # for a new login each time

# For each method, the properties that say about whom it is.
_SUBJECTS = {
    "spf": ("smtp.mailfrom", "smtp.helo"),
    "dkim": ("header.d", "header.i"),
    "dmarc": ("header.from",),
}


@dataclass(frozen=True, slots=True)
class _Found:
    """The message where it arrived."""

    folder: Folder
    head: Head


class RoundTrip:
    """One round trip of a profile's mail. `steps` does it."""

    def __init__(
        self,
        parts: ControlContext,
        mailbox: Mailbox,
        sender: Address,
        recipient: Address,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        self._parts = parts
        self._mailbox = mailbox
        self._sender = sender
        self._recipient = recipient
        self._patience = patience
        self._token = secrets.token_hex(16)
        self._mailboxes = Mailboxes()

    async def steps(self, send: Callable[[Content], Steps]) -> Steps:
        """Yield each step when it is done: those of the mailbox, those of `send`, and what the receiver saw."""
        try:
            async for step in self._steps(send):
                yield step
        except (MailboxFailed, SecretUnavailable) as error:
            yield StepRecord("mailbox", False, str(error))
        finally:
            await self._mailboxes.aclose()

    async def _steps(self, send: Callable[[Content], Steps]) -> Steps:
        mailbox = self._mailbox
        async with await self._open() as opened:
            before = await opened.run(_positions)
        names = " and ".join(folder.name for folder in before)
        yield StepRecord("mailbox", True, f"logged in at {mailbox.place} as {mailbox.username}; looks into {names}")
        hostname = self._parts.settings.effective_hostname
        is_sent = False
        async for step in send(probe_message(self._sender, self._recipient, hostname, self._token)):
            is_sent = step.ok
            yield step
        if is_sent:
            async for step in self._arrival(before):
                yield step

    async def _arrival(self, before: Mapping[Folder, str]) -> Steps:
        started = time.monotonic()
        found = await self._look_for(before, started + self._patience)
        seconds = time.monotonic() - started
        if found is None:
            yield StepRecord("arrived", False, self._missing(before))
            return
        folder, header = found.folder, found.head.header
        where = f"in the junk folder {folder.name}" if folder.is_junk else f"in {folder.name}"
        yield StepRecord("arrived", not folder.is_junk, f"{where} after {seconds:.1f} seconds")
        for name, is_good, detail in seen_by_receiver(MimePart.parse(header).fields, TOKEN_FIELD.lower(), self._sender):
            yield StepRecord(name, is_good, detail)
        async with await self._open() as opened:
            is_gone = await opened.run(lambda reader: reader.remove(folder, found.head.uid))
        detail = "the test message is deleted again" if is_gone else "the test message is marked as deleted"
        yield StepRecord("removed", True, detail)

    async def _look_for(self, before: Mapping[Folder, str], deadline: float) -> _Found | None:
        """Look again and again, on one connection where that sees what arrives."""
        positions = dict(before)
        while True:
            async with await self._open() as opened:
                found = await self._seen(opened, positions)
                while found is None and opened.sees_arrivals and time.monotonic() < deadline:
                    await asyncio.sleep(_PAUSE_SECONDS)
                    found = await self._seen(opened, positions)
            if found is not None or time.monotonic() >= deadline:
                return found
            await asyncio.sleep(_LONGER_PAUSE_SECONDS)

    async def _seen(self, opened: OpenMailbox, positions: dict[Folder, str]) -> _Found | None:
        """Look at what arrived since the last look, and move the positions behind it."""

        def look(reader: Reader) -> _Found | None:
            for folder, position in list(positions.items()):
                arrivals = reader.arrivals(folder, position)
                positions[folder] = arrivals.position
                for head in arrivals.heads:
                    if self._is_ours(head):
                        return _Found(folder, head)
            return None

        return await opened.run(look)

    def _is_ours(self, head: Head) -> bool:
        part = MimePart.parse(head.header)
        # Some providers take away fields that they do not know.
        return part.get(TOKEN_FIELD.lower()) == self._token or self._token in part.get("subject").split()

    def _missing(self, before: Mapping[Folder, str]) -> str:
        where = " or ".join(folder.name for folder in before)
        unseen = "; POP3 shows the inbox alone, so it may be in a junk folder" if len(before) == 1 else ""
        return f"it is not in {where} after {self._patience:g} seconds{unseen}; it may still come"

    async def _open(self) -> AbstractAsyncContextManager[OpenMailbox]:
        ref, secrets = self._mailbox.ref, self._parts.secrets
        secrets.forget(ref)  # a test asks the password's source anew
        return self._mailboxes.open(self._mailbox, await secrets.secret(ref), partial(secrets.renewed, ref))


def _positions(reader: Reader) -> dict[Folder, str]:
    return {folder: reader.position(folder) for folder in reader.folders()}


def seen_by_receiver(fields: Fields, first_sent: str, sender: Address) -> Iterator[tuple[str, bool, str]]:
    """Yield (step, whether it is good, in words) for spf, dkim, dmarc and from.

    `first_sent` names the field that stood on top when the message was sent. SPF or DKIM alone may fail where DMARC
    passes: one that is aligned is enough (RFC 9989). What the receiver does not say is no fault.
    """
    seen = receivers_verdicts(fields, first_sent)
    if seen is None:
        yield "auth", True, "the receiver wrote no Authentication-Results: it does not tell what it saw"
    else:
        yield from _judged(*seen)
    yield _from(value_of(fields, "from"), sender)


def _judged(authserv_id: str, verdicts: Sequence[ReceiverVerdict]) -> Iterator[tuple[str, bool, str]]:
    receiver = authserv_id or "the receiver"
    is_proven = any(verdict.method == "dmarc" and verdict.result == "pass" for verdict in verdicts)
    for method, names in _SUBJECTS.items():
        mine = [verdict for verdict in verdicts if verdict.method == method]
        if not mine:
            yield method, True, f"{receiver} does not say"
            continue
        words = ", ".join(_words(verdict, names) for verdict in mine)
        is_good = is_proven or any(verdict.result == "pass" for verdict in mine)
        yield method, is_good, f"{words} (says {receiver})"


def _words(verdict: ReceiverVerdict, names: Sequence[str]) -> str:
    subject = verdict.get(*names)
    return f"{verdict.result} for {subject}" if subject else verdict.result


def _from(value: str, sender: Address) -> tuple[str, bool, str]:
    try:
        address = parse_from(value.encode("utf-8", "replace")).address
    except MailboxFault as fault:
        return "from", False, f"the From that arrived cannot be read: {fault}"
    if address.key == sender.key:
        return "from", True, f"{address}, as it was sent"
    return "from", False, f"{address} arrived and {sender} was sent: the provider replaced it"


def probe_message(sender: Address, recipient: Address, hostname: str, token: str = "") -> Content:
    """Return it. With a token it bears that on top and in its subject, so that it can be found where it arrives."""
    now = datetime.now(UTC)
    fields = {
        **({TOKEN_FIELD: token} if token else {}),
        "Date": format_date(now),
        "From": str(sender),
        "To": str(recipient),
        "Subject": f"Relay test message {token}".strip(),
        "Message-ID": message_id(new_id(now), sender),
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Auto-Submitted": "auto-generated",
    }
    header = Header(tuple(Field.make(name, value) for name, value in fields.items()))
    text = (
        "This message was sent by a test of Relay.\r\n\r\n"
        f"Sender: {sender}\r\nRecipient: {recipient}\r\nMachine: {hostname}\r\n"
    )
    return Content(bytes(header), (text.encode(),))
