"""Opening mailboxes: connected and secured here, read in a few threads of their own.

A thread that waits for a server cannot be cancelled. Its connection can be shut, by a second handle on it; then the
thread ends at once.
"""

import asyncio
import imaplib
import os
import poplib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

from relay.directory.model import Server
from relay.directory.tables import Incoming
from relay.incoming.imap import ImapReader
from relay.incoming.mailbox import Mailbox
from relay.incoming.pop3 import Pop3Reader
from relay.incoming.reader import Credentials, MailboxFailed, MailboxRefused, Reader
from relay.mail.reply import clean_text
from relay.secrets.secret import Secret
from relay.upstream.dial import Contexts, dial, resolve
from relay.upstream.outcome import Failed
from relay.upstream.transaction import Timeouts

T = TypeVar("T")
Renewal: TypeAlias = Callable[[Secret], Awaitable[Secret | None]]
"""Gives another access token for one that was refused, None where there is none (`SecretResolver.renewed`)."""

_AT_ONCE = 4
_CONNECT_SECONDS = 15.0
_ANSWER_SECONDS = 30.0
_TIMEOUTS = Timeouts(connect=_CONNECT_SECONDS, reply=_ANSWER_SECONDS)
_FAULTS = (imaplib.IMAP4.error, poplib.error_proto, OSError, EOFError, ValueError)


class OpenMailbox:
    """An open mailbox. What is done with it runs in a thread, one thing at a time."""

    def __init__(self, mailbox: Mailbox, reader: Reader, threads: "_Threads", handle: "_Connection") -> None:
        self.sees_arrivals = reader.sees_arrivals
        self._mailbox = mailbox
        self._reader = reader
        self._threads = threads
        self._handle = handle

    async def run(self, job: Callable[[Reader], T]) -> T:
        """Do something with the reader. Raises MailboxFailed."""
        with _named(self._mailbox):
            return await self._threads.run(lambda: job(self._reader), self._handle)

    async def aclose(self) -> None:
        """Close the connection at once."""
        self._reader.drop()
        await self._handle.aclose()


class Mailboxes:
    """Opens mailboxes, a few at once. `aclose` when it is over."""

    def __init__(self) -> None:
        self._contexts = Contexts()
        self._threads = _Threads()

    async def aclose(self) -> None:
        """Open nothing more."""
        self._threads.close()

    @asynccontextmanager
    async def open(
        self, mailbox: Mailbox, secret: Secret | None, renew: Renewal | None = None
    ) -> AsyncIterator[OpenMailbox]:
        """Give an open mailbox. A refused token is renewed once.

        Raises MailboxFailed, MailboxRefused where the login is what fails, and what `renew` raises.
        """
        if secret is None:
            lack = "password" if mailbox.ref.token is None else "authorization"
            raise MailboxRefused(f"{mailbox} has no {lack}; {mailbox.remedy}")
        try:
            opened = await self._opened(mailbox, secret)
        except MailboxRefused:
            another = await renew(secret) if renew is not None else None
            if another is None:
                raise
            opened = await self._opened(mailbox, another)
        try:
            yield opened
            await opened.run(lambda reader: reader.leave())
        finally:
            await opened.aclose()

    async def _opened(self, mailbox: Mailbox, secret: Secret) -> OpenMailbox:
        login = Credentials(mailbox.username, secret.value, is_token=mailbox.ref.token is not None)
        if mailbox.api is not None:
            return await self._opened_by_api(mailbox, mailbox.api, login)
        with _named(mailbox):
            context = await self._context(mailbox.incoming)
            line = await _connect(mailbox.incoming)
            handle = _Handle(line.dup())
            try:
                reader = await self._threads.start(partial(_log_in, line, context, mailbox, login), handle)
            except BaseException:
                line.close()
                await handle.aclose()
                raise
        return OpenMailbox(mailbox, reader, self._threads, handle)

    async def _opened_by_api(self, mailbox: Mailbox, server: Server, login: Credentials) -> OpenMailbox:
        from relay.incoming.api import ApiReader  # noqa: PLC0415  httpx2 takes 0.1 s, and few mailboxes need it
        from relay.upstream.http.client import ApiClient  # noqa: PLC0415

        with _named(mailbox):
            try:
                client = await ApiClient.open(server, self._contexts, _TIMEOUTS)
            except Failed as failed:
                raise MailboxFailed(failed.failure.why) from None
            reader = ApiReader(client, server, login, asyncio.get_running_loop())
            try:
                await self._threads.run(reader.look, reader)
            except BaseException:
                await reader.aclose()
                raise
        return OpenMailbox(mailbox, reader, self._threads, reader)

    async def _context(self, incoming: Incoming) -> ssl.SSLContext | None:
        if incoming.security == "none":
            return None
        try:
            return await self._contexts.get(verify=True, ca_file=incoming.ca_file)
        except OSError as error:
            raise MailboxFailed(f"its ca_file cannot be used: {error.strerror or error}") from None


async def _connect(incoming: Incoming) -> socket.socket:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            line = await dial(await resolve(incoming.host, incoming.effective_port))
    except TimeoutError:
        raise MailboxFailed(f"no answer within {_CONNECT_SECONDS:g} seconds") from None
    line.settimeout(_ANSWER_SECONDS)
    return line


def _log_in(line: socket.socket, context: ssl.SSLContext | None, mailbox: Mailbox, login: Credentials) -> Reader:
    """Secure a connected line and log in. It blocks. The line is closed where that fails."""
    incoming = mailbox.incoming
    kind: type[ImapReader | Pop3Reader] = ImapReader if incoming.protocol == "imap" else Pop3Reader
    starttls = context if incoming.security == "starttls" else None
    if context is not None and incoming.security == "tls":
        line = context.wrap_socket(line, server_hostname=incoming.host)
    try:
        return kind(line, incoming.host, incoming.effective_port, starttls, login)
    except BaseException:
        line.close()
        raise


@contextmanager
def _named(mailbox: Mailbox) -> Iterator[None]:
    """Let every fault be one sentence that names the mailbox."""
    where = f"{mailbox} ({mailbox.place})"
    try:
        yield
    except MailboxRefused as error:
        raise MailboxRefused(f"{where}: {clean_text(str(error))}; {mailbox.remedy}") from None
    except MailboxFailed as error:
        raise MailboxFailed(f"{where}: {clean_text(str(error))}") from None
    except _FAULTS as error:
        raise MailboxFailed(f"{where}: {clean_text(_words(error))}") from None


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, socket.gaierror):
        return f"the name is not found: {error.strerror}"
    if isinstance(error, OSError):  # asyncio puts its own words into strerror
        return os.strerror(error.errno).lower() if error.errno else str(error)
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said) or "the connection was lost"


class _Connection(Protocol):
    """What a reader in a thread waits for, as the loop has hold of it."""

    def cut(self) -> None:
        """End what is under way."""

    async def aclose(self) -> None:
        """Close it."""


class _Handle:
    """A second handle on the socket of a reader."""

    def __init__(self, handle: socket.socket) -> None:
        self._handle = handle

    def cut(self) -> None:
        with suppress(OSError):
            self._handle.shutdown(socket.SHUT_RDWR)

    async def aclose(self) -> None:
        self._handle.close()


class _Threads:
    """Runs what blocks, and shuts its connection when its caller is cancelled."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mailbox")

    def close(self) -> None:
        """Run nothing more."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def run(self, job: Callable[[], T], handle: _Connection) -> T:
        """Return what a job returns, once it has ended; so it has when this is cancelled."""
        task = asyncio.get_running_loop().run_in_executor(self._executor, job)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            handle.cut()
            with suppress(Exception):
                await task
            raise

    async def start(self, log_in: Callable[[], Reader], handle: _Connection) -> Reader:
        """Return a reader; one that comes too late, because this was cancelled, is dropped."""
        readers: list[Reader] = []

        def job() -> Reader:
            readers.append(log_in())
            return readers[0]

        try:
            return await self.run(job, handle)
        except BaseException:
            for reader in readers:
                reader.drop()
            raise
