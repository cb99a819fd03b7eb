"""One client's connection: octets in, replies out, and how it becomes TLS. What is said on it is `session`'s.

It is aiosmtpd's SMTP protocol, and what its __init__ finds by reflection is prepared once (`Connection.prepare`). The
callbacks of the transport are ours: aiosmtpd starts a task for each connection, wakes it for each line and sets a timer
for each command, and cancels a message that is being handed over when its client leaves. As it comes it takes 0.23 ms
of the processor for EHLO and QUIT, and as much for a message of 2 KB; here it is 0.07 and 0.09 ms.

Replies are held back while more input is already here, and written in one go before more is waited for (RFC 2920
section 3.2: a server may send the answers of one pipelined group together).
"""

import asyncio
import logging
import ssl
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Final, Self

from aiosmtpd.smtp import SMTP

from relay.listener import replies
from relay.listener.session_limits import SessionLimits

_MOST_WAITING: Final = 64 * 1024  # octets that wait to be worked on; with more, nothing is read from the network
_LOST: Final = "the connection was lost"
# Of what SMTP.__init__ sets: what belongs to one connection, or calls the one that it was prepared with.
_OF_ONE: Final = frozenset(
    ["_closed", "_stream_reader_wr", "_strong_reader", "_client_connected_cb", "_auth_methods", "_smtp_methods"]
)


class ClientLeft(ConnectionError):
    """The client has closed its side, or the connection is lost: nothing more will come."""


class LineTooLong(Exception):
    """A line is longer than was asked for; all of it has been thrown away."""


class TlsFailed(Exception):
    """TLS did not begin, and the connection is gone. The message says why, in OpenSSL's or the system's words."""


class Connection(SMTP, ABC):
    """The server's end of a connection: plain first, and then perhaps under TLS.

    While `_is_busy`, one task has what comes (`chunk`, `line`); else `_work` is called with it.
    """

    transport: Any
    data_size_limit: int
    # A connection begins with these; only what changes is its own.
    _input = b""
    _at = 0  # what stands before has been read; where all has been, there is no input
    _out = b""  # what is said and has not left
    _is_too_long = False  # the line that has begun
    _is_held = False  # reading from the network
    _is_full = False  # what is written waits until the client reads
    _has_ended = False  # what the client sends
    _is_busy = False
    # Until the greeting, and while TLS begins, nothing that we said would be understood.
    _is_mute = True
    _is_protected = False
    _task: asyncio.Task[None] | None = None
    _reader_lent: asyncio.StreamReader | None = None
    _awaited: asyncio.Future[None] | None = None  # the next octets, for a task
    _drained: asyncio.Future[None] | None = None  # set when the client reads again, or is gone

    def __init__(self, session_limits: SessionLimits) -> None:
        # SMTP.__init__ has run, for the class: see `prepare`.
        self._session_limits = session_limits
        self._heard_at = self.loop.time()  # the last command that was obeyed, or part of a message

    @classmethod
    def prepare(cls, hostname: str, largest: int) -> type[Self]:
        """Return the class for the connections of a running loop, with all that SMTP.__init__ sets.

        It looks for commands, hooks and mechanisms by reflection, which takes 0.17 ms, twice a whole session. What it
        finds is the same for each, so it runs once, and its results are attributes of the class. It is given no handler
        with hooks: our commands ask `Acceptance`. (In Python 3.11.2 it cannot inspect one whose class has slots.)
        """
        # It tells of its own mechanisms, which are not those that we offer.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        first = cls.__new__(cls)
        loop = asyncio.get_running_loop()
        SMTP.__init__(first, None, data_size_limit=largest, enable_SMTPUTF8=True, hostname=hostname, loop=loop)
        return type(cls.__name__, (cls,), {name: of for name, of in vars(first).items() if name not in _OF_ONE})

    # What a session adds.

    @property
    @abstractmethod
    def is_handing_over(self) -> bool:
        """Whether a message is on its way from us, so that silence is ours."""

    @abstractmethod
    def _begin(self) -> None:
        """Somebody is there."""

    @abstractmethod
    def _work(self) -> None:
        """Work on what has come, and write what is to be said. Not called while `_is_busy`."""

    @abstractmethod
    def _left(self) -> None:
        """The connection is lost."""

    # The life of the connection; these replace aiosmtpd's.

    def connection_made(self, transport: Any) -> None:
        """Somebody is there: begin the session."""
        self.transport = transport
        self._begin()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's own
        """Nobody is there any more. Where TLS fails, the loop tells it or we do, or both."""
        if self.transport is None:
            return
        self.transport = None
        self._is_full = False
        self._has_ended = True
        if self._reader_lent is not None:
            self._reader_lent.feed_eof()
        self._wake()
        self._left()

    def data_received(self, data: bytes) -> None:
        """Octets have come."""
        if self._reader_lent is not None:
            self._reader_lent.feed_data(data)
            return
        self._input = self._input[self._at :] + data if self._input else data
        self._at = 0
        if not self._is_busy and not self._is_full:
            self._work()
        elif self._awaited is not None:
            self._wake()
        if self._input:
            self._throttle()

    def eof_received(self) -> bool:
        """The client sends no more, but may still wait for replies: what has come is worked off (nc does this)."""
        self._has_ended = True
        if self._reader_lent is not None:
            self._reader_lent.feed_eof()
        self._go_on()
        # Under TLS there are no half-open connections.
        return not self._is_protected and not self._is_mute

    def pause_writing(self) -> None:
        """The client does not read what we say: nothing more is answered now."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._is_full = False
        self._go_on()

    def look_for_silence(self, now: float) -> None:
        """Hang up where nothing was heard for too long; a client that does not read even that is cut off later."""
        if not self.is_handing_over and now - self._heard_at >= self._session_limits.idle_seconds:
            self._heard_at = now
            self.hang_up(replies.IDLE_LINE)

    # Reading.

    def _next_line(self, longest: int) -> bytes | None:
        """Return the next line without its end; None where it is not whole yet. CRLF ends it, and a lone LF does too,
        as people type it into nc.

        Raises LineTooLong after the whole of a line of more than `longest` octets (its end not counted) has passed.
        """
        octets, start = self._input, self._at
        end = octets.find(b"\n", start)
        if end < 0:
            self._at = 0
            self._input = octets[start:]
            if len(self._input) > longest + len(b"\r"):
                self._is_too_long = True
                self._input = b""
            return None
        self._at = end + 1
        if self._at == len(octets):
            self._input, self._at = b"", 0
        if end > start and octets[end - 1] == 13:  # CR
            end -= 1
        if self._is_too_long or end - start > longest:
            self._is_too_long = False
            raise LineTooLong
        return octets[start:end]

    def _take_all(self) -> bytes:
        """Return what has come and nobody has read."""
        octets = self._input[self._at :] if self._at else self._input
        self._input, self._at = b"", 0
        return octets

    async def line(self, longest: int) -> bytes:
        """Return the next line as `_next_line` does, for a task. Raises LineTooLong and ClientLeft."""
        while (line := self._next_line(longest)) is None:
            await self._more()
        return line

    async def chunk(self, most: int | None = None) -> bytes:
        """Return what has come, whatever its borders, but not more than so many octets. Raises ClientLeft."""
        while not self._input:
            await self._more()
        if most is None or most >= len(self._input) - self._at:
            chunk = self._take_all()
        else:
            chunk = self._input[self._at : self._at + most]
            self._at += most
        if self._is_held:
            self._throttle()
        self._heard_at = self.loop.time()
        return chunk

    def unread(self, rest: bytes) -> None:
        """Put back what belongs to the next commands."""
        self._input = rest + self._take_all()

    async def _more(self) -> None:
        """Wait until more has come. Raises ClientLeft."""
        self._write()
        if self._has_ended or self.transport is None:
            raise ClientLeft
        self._awaited = self.loop.create_future()
        await self._awaited
        self._awaited = None
        if self.transport is None:
            raise ClientLeft

    def _wake(self) -> None:
        for awaited in (self._awaited, self._drained):
            if awaited is not None and not awaited.done():
                awaited.set_result(None)

    def _go_on(self) -> None:
        if self._is_busy:
            self._wake()
        elif not self._is_full:
            self._work()

    def _throttle(self) -> None:
        """Read nothing more from the network while much waits."""
        waits = len(self._input) - self._at > _MOST_WAITING
        if waits != self._is_held and self.transport is not None and not self.transport.is_closing():
            self._is_held = waits
            if waits:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _lend(self, limit: int) -> asyncio.StreamReader:
        """Return a reader which has all that comes from now on, until `_take_back`."""
        reader = self._reader_lent = asyncio.StreamReader(limit, self.loop)
        if self.transport is not None:
            reader.set_transport(self.transport)
        reader.feed_data(self._take_all())
        if self._has_ended:
            reader.feed_eof()
        if self._is_held:
            self._throttle()
        return reader

    async def _take_back(self) -> None:
        """Go on with what the reader has left."""
        reader, self._reader_lent = self._reader_lent, None
        assert reader is not None
        reader.feed_eof()
        self.unread(await reader.read())

    # Saying.

    def send(self, reply: bytes) -> None:
        """Add a reply to those that go out next."""
        self._out += reply

    def _write(self) -> None:
        """Write every reply that is held back."""
        if self._out:
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(self._out)
            self._out = b""

    async def _flush(self) -> None:
        """Write every reply that is held back, and wait while the client does not read. Raises ClientLeft."""
        self._write()
        while self._is_full:
            self._drained = self.loop.create_future()
            await self._drained
        if self.transport is None or self.transport.is_closing():
            raise ClientLeft

    def abort(self) -> None:
        """Cut the connection off."""
        if self.transport is not None:
            self.transport.abort()

    def hang_up(self, last_words: bytes) -> None:
        """Say a last reply, where the client can hear it, and close.

        A client that has not even read the replies before it is cut off, and so is one that is being closed: under TLS
        that waits for the client's good-bye, and knows no buffer any more.
        """
        transport = self.transport
        if self._is_mute or transport is None or transport.is_closing() or transport.get_write_buffer_size():
            self.abort()
        else:
            self._out += last_words
            self._write()
            self.transport.close()

    def _close(self) -> None:
        """Close our side. asyncio's TLS takes a second close for an abort that it then forgets to do."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a task go on with the session, which ends by `_is_busy = False` and what follows."""
        self._is_busy = True
        self._task = self.loop.create_task(work)

    # TLS.

    @property
    def is_protected(self) -> bool:
        """Whether TLS is up."""
        return self._is_protected

    @property
    def tls_version(self) -> str:
        """Which TLS protects the connection ("TLSv1.3"); "" where none does."""
        protection = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        return str(protection.version()) if protection is not None else ""

    def _pause_reading(self) -> None:
        """Read nothing more from the network for now. Raises ClientLeft."""
        if self.transport is None or self.transport.is_closing():
            raise ClientLeft
        self.transport.pause_reading()

    async def _begin_tls(self, context: ssl.SSLContext, unread: bytes = b"") -> None:
        """Put the connection under TLS, as its server; reading must be paused. Raises TlsFailed.

        Whatever was read in plain before is forgotten (RFC 3207 section 4.2), but for `unread`: the first octets of
        TLS that have come already.
        """
        plain = self.transport
        if plain is None or plain.is_closing():
            raise TlsFailed(_LOST)
        self._is_mute = True
        self._input, self._at, self._out = b"", 0, b""
        self._is_too_long = self._is_held = self._is_full = self._has_ended = False
        try:
            protected = await self._shake_hands(plain, context, unread)
        except OSError as error:
            self._give_up(plain)
            raise TlsFailed(_reason(error)) from None
        except BaseException:
            self._give_up(plain)
            raise
        if protected is None or plain.is_closing():
            # The connection was lost within the handshake, which the loop takes for its end.
            self._give_up(plain)
            raise TlsFailed(_LOST)
        self.transport = protected
        self._is_protected = True

    async def _shake_hands(self, plain: Any, context: ssl.SSLContext, unread: bytes) -> asyncio.Transport | None:
        upgrade = self.loop.start_tls(
            plain,
            self,
            context,
            server_side=True,
            ssl_handshake_timeout=self._session_limits.handshake_seconds,
            ssl_shutdown_timeout=self._session_limits.goodbye_seconds,
        )
        shaking = self.loop.create_task(upgrade)
        if unread:
            # Behind the first step of that task, and behind the connection_made that this step asks for.
            self.loop.call_soon(self.loop.call_soon, _replay, plain, unread)
        return await shaking

    def _give_up(self, plain: asyncio.Transport) -> None:
        plain.abort()
        self.connection_lost(None)


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionResetError):
        return _LOST
    return getattr(error, "reason", None) or error.strerror or str(error) or type(error).__name__


def _replay(transport: asyncio.Transport, octets: bytes) -> None:
    """Give a transport's protocol, which is TLS, octets that were taken from the network before it was there."""
    protocol: Any = transport.get_protocol()  # an asyncio.BufferedProtocol by its methods, in uvloop not by its class
    while octets and not transport.is_closing():
        buffer = memoryview(protocol.get_buffer(len(octets)))
        count = min(len(buffer), len(octets))
        buffer[:count] = octets[:count]
        protocol.buffer_updated(count)
        octets = octets[count:]
