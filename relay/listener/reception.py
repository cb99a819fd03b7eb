"""A client's way in and out: who is let in, PROXY header, TLS first, greeting; what the registry asks; and the end.

What is said in between is `session`'s.
"""

import asyncio
import ssl
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final, NamedTuple

from aiosmtpd.smtp import Envelope as SmtpEnvelope
from aiosmtpd.smtp import Session as SmtpSession

from relay import log
from relay.listener import replies
from relay.listener.client_identity import Origin, ProxyFault, origin_of, read_header
from relay.listener.commands import CommandFault
from relay.listener.connection import ClientLeft, Connection, TlsFailed
from relay.listener.ports import Submission
from relay.listener.receiving import Chunks
from relay.listener.session_context import ListenerContext, SessionContext
from relay.mail.reply import Reply

_PROXY_BUFFER: Final = 64 * 1024  # octets; the longest header is hardly longer


class State(IntEnum):
    """How far a client has come."""

    NEW = 0  # no EHLO or HELO
    READY = 1  # for MAIL
    MAIL = 2  # a sender, and no recipient named
    REFUSED = 3  # recipients named, and none taken
    RCPT = 4  # a recipient or more
    CHUNKS = 5  # BDAT has begun the message
    DATA = 6  # the message comes
    OVER = 7  # nothing more is read


class Command(NamedTuple):
    """One command: the method of a session that obeys it, and the states in which it is refused, each with the reply.

    One that `is_bare` takes no argument.
    """

    obey: Callable[[Any, bytes], bytes]
    refused: Mapping[State, Reply] = {}
    is_bare: bool = False


class Transaction(SmtpEnvelope):
    """aiosmtpd's envelope, in which `mail_from` is the `Envelope` of MAIL and `rcpt_tos` has the `Recipient`s."""

    mail_from: Any
    rcpt_tos: list[Any]
    chunks: Chunks | None = None


class Reception(Connection):
    """A connection until its greeting, and from its last reply. In between it is open, which begins with State.NEW."""

    session: SmtpSession
    _submission: Submission | None = None  # the message that is being handed over
    _is_in_data = False  # a message or chunk comes, or waits for its answer
    _answer_at: float | None = None  # when the last reply is due, as soon as we hurry
    _is_answered = False  # whether a message has its reply, since we stop
    _is_stopping = False
    _stops_at = 0.0
    _turn: asyncio.Handle | None = None  # when we go on: the other sessions have a turn, or this client has to wait
    _pausing: asyncio.Event | None = None  # set when the connection is gone meanwhile
    _errors = 0
    _state = State.NEW
    _can_starttls = False
    _may_log_in = False

    def __init__(self, context: SessionContext, listener: ListenerContext) -> None:
        super().__init__(context.session_limits)
        self._context = context
        self._listener = listener

    @abstractmethod
    def _forget_message(self) -> None:
        """Forget the message that was begun."""

    # What the registry asks of a session, beside `abort` and `look_for_silence`.

    @property
    def is_handing_over(self) -> bool:
        """Whether a message is on its way from us."""
        return self._submission is not None

    def stop(self) -> None:
        """End soon: now where the client is silent, else when its message has the reply or it falls silent.

        Who is just about to hand over a message need not come again.
        """
        self._is_stopping = True
        self._is_answered = False
        self._stops_at = self.loop.time() + self._session_limits.farewell
        self._stop_in_a_lull()

    def hurry(self, seconds: float) -> None:
        """Answer within so many seconds, whatever is under way."""
        self._answer_at = self.loop.time() + seconds
        if self._submission is not None:
            self._submission.hurry(seconds)

    def _stop_in_a_lull(self) -> None:
        if self.transport is None:
            return
        now = self.loop.time()
        rest = min(self._heard_at + self._session_limits.lull, self._stops_at) - now
        if self._is_in_data:
            rest = self._session_limits.lull
        if rest > 0:
            self.loop.call_later(rest, self._stop_in_a_lull)
        else:
            self.hang_up(replies.STOPPING_LINE)

    # From the connection to the greeting, and to the end.

    def _begin(self) -> None:
        try:
            self._context.events.connected()
            self._origin = origin_of(self.transport)
            self._client = self._network_client = self._listener.rules.client_of(self._origin)
            refusal = self._context.registry.enter(self)
            if refusal is not None:
                self._turn_away("connect", refusal)
            elif self._listener.is_tls_first or self._listener.rules.is_proxy(self._origin):
                self._start(self._prepare_to_greet())
            elif self._is_let_in():
                self._greet()
        except Exception:  # it must not reach the event loop, and ends this session alone
            self._broken()

    def _broken(self) -> None:
        # The last net of a connection: whatever went wrong here ends this session and no other.
        log.broken("a session ended by a fault", exc_info=True)
        self._state = State.OVER
        self._close()

    def _left(self) -> None:
        """Nobody is there any more. A message that is being handed over hears of it, and goes on."""
        if self._pausing is not None:
            self._pausing.set()
        if self._submission is not None:
            self._submission.client_left()
        elif self._task is None:
            self._end()

    def _end(self) -> None:
        """The connection is gone, and nothing of it is under way."""
        self._state = State.OVER
        if self._turn is not None:
            self._turn.cancel()
        self._forget_message()
        self._context.registry.leave(self)

    async def _prepare_to_greet(self) -> None:
        """Find out whom a proxy speaks for, and begin TLS where that comes first."""
        is_ready = False
        try:
            is_ready = await self._is_recognized() and (not self._listener.is_tls_first or await self._protect_first())
        except ClientLeft:
            pass
        except Exception:  # whatever it is, it ends this session alone
            self._broken()
        if is_ready:
            self._greet()
        else:
            self._state = State.OVER
        self._resume()

    async def _is_recognized(self) -> bool:
        """Find out whom a proxy speaks for, and count the client; False where it was turned away."""
        try:
            if self._listener.rules.is_proxy(self._origin):
                proxy = self._origin
                behind = await self._read_proxy_header()
                if behind is None and self._context.registry.is_leaving:
                    # Its check: it is to send the next clients to another.
                    self._turn_away("PROXY", replies.STOPPING)
                    return False
                self._origin = behind or proxy
                self._client = self._network_client = self._listener.rules.client_of(self._origin)
        except ProxyFault as fault:
            self._turn_away("PROXY", replies.NO_PROXY_HEADER, reason=str(fault))
            return False
        return self._is_let_in()

    def _is_let_in(self) -> bool:
        refusal = self._context.registry.recognize(self, self._client)
        if refusal is not None:
            self._turn_away("connect", refusal)
        return refusal is None

    async def _read_proxy_header(self) -> Origin | None:
        reader = self._lend(_PROXY_BUFFER)
        try:
            return await read_header(reader, self._session_limits.proxy_seconds)
        finally:
            await self._take_back()

    def _turn_away(self, at: str, refusal: Reply, **facts: str) -> None:
        self._context.events.refused(self._client.name, at, refusal, **facts)
        # Whoever waits for TLS could not read it.
        if not self._listener.is_tls_first:
            self._out += bytes(refusal)
            self._write()
        self._state = State.OVER
        self._close()

    def _greet(self) -> None:
        self._open_dialog()
        self._out += replies.greeting(self.hostname)
        self._write()

    def _open_dialog(self) -> None:
        """From here on we can speak; what was said before TLS is forgotten (RFC 3207 section 4.2)."""
        self._is_mute = False
        self._state = State.NEW
        self._client = self._network_client
        self.session = SmtpSession(self.loop)
        self.session.peer = self._client.peer
        self._can_starttls = self._listener.certificate is not None and not self._is_protected
        self._may_log_in = self._listener.rules.may_log_in(self._origin, is_tls=self._is_protected)

    async def _protect_first(self) -> bool:
        self._pause_reading()
        return await self._protect(self._take_all())

    async def _protect(self, unread: bytes = b"") -> bool:
        """Put the connection under TLS; False where that failed, and it is gone."""
        try:
            await self._begin_tls(self._tls_context(), unread)
        except TlsFailed as failure:
            self._context.events.unprotected(self._client.name, str(failure))
            return False
        if version := self.tls_version:  # else the client has left already
            self._context.events.protected(version)
        return True

    def _tls_context(self) -> ssl.SSLContext:
        assert self._listener.certificate is not None
        return self._listener.certificate.context()

    # What is wrong.

    def _failed(self, verb: bytes, error: Exception) -> Reply:
        """Return the answer to a command that could not be obeyed."""
        if isinstance(error, CommandFault):
            return self._refused(verb, error.reply)
        # Ours to mend, not the client's: it hears nothing of the cause and may try again.
        log.broken("a command could not be answered", exc_info=error)
        self._forget_message()
        return replies.INTERNAL_FAULT

    def _refused(self, verb: bytes, reply: Reply) -> Reply:
        # What is no verb may be anything, a password that came at the wrong moment among it.
        at = "unknown" if reply == replies.UNKNOWN_COMMAND else verb.decode("ascii", "replace")[:16]
        self._context.events.refused(self._client.name, at, reply)
        return self._counted(reply)

    def _counted(self, reply: Reply) -> Reply:
        """Return the reply, or the last one if this client has not understood the protocol too often.

        Errors of order (503) and of addresses do not count: one refused MAIL brings a 503 for each pipelined RCPT.
        """
        if reply.code != 503 and reply.enhanced.startswith("5.5."):
            self._errors += 1
        return replies.TOO_MANY_ERRORS if self._errors >= self._session_limits.errors else reply

    # What has to wait.

    async def _pause(self, seconds: float) -> None:
        """Wait, or until the connection is gone; what waits to be said goes out before."""
        await self._flush()
        if self.transport is not None:
            self._pausing = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._pausing.wait(), seconds)

    def _wait(self, turn: asyncio.Handle) -> None:
        """Let nothing be answered until this turn comes."""
        self._is_busy = True
        self._turn = turn

    def _take_turn(self) -> None:
        self._turn = None
        self._is_busy = False
        self._go_on()

    def _resume(self) -> None:
        """What was waited for ends here: go on with what has come meanwhile."""
        self._task = None
        if self.transport is None:
            self._end()
        elif self._turn is not None:
            self._write()
        else:
            self._is_busy = False
            if not self._is_full:
                self._work()
