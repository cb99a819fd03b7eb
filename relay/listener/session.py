"""One SMTP session: aiosmtpd's protocol where it is right, our own where it is not.

From aiosmtpd come the life of a connection and (later) STARTTLS. Replaced are the reading of commands, addresses and
data, the replies to faults, and what happens when a client leaves: aiosmtpd decodes encoded words in addresses, takes
seconds for many short lines, tells exception texts, and cancels a message that is being handed over.
"""

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog
from aiosmtpd.smtp import SMTP

from relay import log
from relay.listener import replies
from relay.listener.commands import LONGEST_LINE, CommandFault, split_command
from relay.listener.crowd import Crowd
from relay.listener.data import read_data
from relay.listener.dialog import Answer, Dialog
from relay.listener.peer import Gate
from relay.listener.ports import Desk, Submission
from relay.listener.tolerance import Tolerance
from relay.listener.wire import ClientLeft, LineTooLong, Wire
from relay.mail.content import Content, ContentRefused
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.mail.trace import Arrival, new_id
from relay.settings import Limits

# A page in a browser can make it send these to a port of this machine; what would follow is for the attacker to say.
_HTTP_VERBS: Final = frozenset(
    [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH", b"PRI"]
)
_LAST_WORDS: Final = (221, 421)  # RFC 5321 section 4.2.1: the server closes the connection after either
_BUFFER: Final = 64 * 1024  # octets; reading pauses at twice as many


class Session(SMTP):
    """The server's side of one connection."""

    def __init__(self, desk: Desk, limits: Limits, tolerance: Tolerance, gate: Gate, crowd: Crowd) -> None:
        # SMTP.__init__ searches itself by reflection at every connection (most of a connection's time) and asks DNS
        # for our name. Only what its inherited methods use is set here.
        self.loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_BUFFER, loop=self.loop)
        asyncio.StreamReaderProtocol.__init__(self, reader, self._cb_client_connected, self.loop)
        self.transport = None
        self._original_transport = None
        self._timeout_handle = None
        self._desk = desk
        self._limits = limits
        self._tolerance = tolerance
        self._gate = gate
        self._crowd = crowd
        self._heard_at = 0.0
        self._errors = 0
        self._is_in_data = False
        self._is_stopping = False
        self._submission: Submission | None = None

    # What the crowd asks of a session.

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that ends when the session has ended."""
        assert self._handler_coroutine is not None
        return self._handler_coroutine

    @property
    def is_handing_over(self) -> bool:
        """Whether a message is on its way from us."""
        return self._submission is not None

    def stop(self) -> None:
        """End soon: now, or when the message that is being received has its reply."""
        self._is_stopping = True
        if not self._is_in_data:
            self._wire.hang_up(bytes(replies.STOPPING))

    def abort(self) -> None:
        """Cut the connection off. A message that is being handed over goes on without its client."""
        self._wire.abort()

    # The life of the connection; these replace aiosmtpd's.

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody is there any more. aiosmtpd would cancel what is being handed over; we tell it and let it end."""
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self.transport = None
        if self._submission is not None:
            self._submission.client_left()

    def eof_received(self) -> bool | None:
        """The client sends no more, but may still wait for replies: what has come is worked off (nc does this)."""
        return asyncio.StreamReaderProtocol.eof_received(self)

    def _reset_timeout(self, duration: float | None = None) -> None:
        # One timer a connection, that looks when something was last heard; setting one anew each time costs more.
        self._heard_at = self.loop.time()
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_later(duration or self._tolerance.idle_seconds, self._timeout_cb)

    def _timeout_cb(self) -> None:
        silent = self.loop.time() - self._heard_at if self._submission is None else 0.0
        rest = self._tolerance.idle_seconds - silent
        if rest <= 0:
            # Once more later: a client that does not read even this is cut off then.
            self._wire.hang_up(bytes(replies.IDLE))
            rest = self._tolerance.idle_seconds
        self._timeout_handle = self.loop.call_later(rest, self._timeout_cb)

    async def _handle_client(self) -> None:
        self._wire = Wire(self._reader, self._writer, self._reset_timeout)
        try:
            await self._admit()
            await self._wire.flush()
        except ClientLeft:
            pass
        except Exception:
            # The last net of a connection: whatever went wrong here ends this session and no other.
            structlog.get_logger().exception("broken", what="a session ended by a fault")
        finally:
            await self._wire.close()
            self._crowd.leave(self)

    async def _admit(self) -> None:
        client = self._gate.client_of(self._writer.get_extra_info("peername"))
        self._dialog = Dialog(client, self._desk, self._limits)
        refusal = self._crowd.enter(self, client)
        if refusal is None:
            await self._converse()
        else:
            log.refused(client=client.name, at="connect", reply=str(refusal))
            self._wire.send(bytes(refusal))

    # The conversation.

    async def _converse(self) -> None:
        self._wire.send(bytes(replies.greeting(self._desk.hostname)))
        is_over = False
        while not is_over:
            try:
                line = await self._wire.line(LONGEST_LINE)
            except LineTooLong:
                answer: Answer = self._counted(replies.LINE_TOO_LONG)
            else:
                answer = await self._answer(line)
            self._wire.send(bytes(answer))
            is_over = isinstance(answer, Reply) and answer.code in _LAST_WORDS
            if self._is_stopping and not is_over:
                self._wire.send(bytes(replies.STOPPING))
                is_over = True
            await self._wire.make_way()

    async def _answer(self, line: bytes) -> Answer:
        verb = b""
        try:
            verb, argument = split_command(line)
            if verb in _HTTP_VERBS:
                return self._refused(verb, replies.NOT_HTTP)
            if verb == b"DATA":
                answer: Answer = await self._data(argument)
            else:
                answer = self._dialog.answer(verb, argument)
        except CommandFault as fault:
            return self._refused(verb, fault.reply)
        except ClientLeft:
            raise
        except Exception:
            # Ours to mend, not the client's: it hears nothing of the cause and may try again.
            structlog.get_logger().exception("broken", what="a command could not be answered")
            self._dialog.reset()
            return replies.INTERNAL_FAULT
        self._reset_timeout()
        return answer

    def _refused(self, verb: bytes, reply: Reply) -> Reply:
        log.refused(client=self._dialog.client.name, at=verb.decode("ascii", "replace")[:16], reply=str(reply))
        return self._counted(reply)

    def _counted(self, reply: Reply) -> Reply:
        """Return the reply, or the last one if this client has not understood the protocol too often.

        Errors of order (503) and of addresses do not count: one refused MAIL brings a 503 for each pipelined RCPT.
        """
        if reply.code != 503 and reply.enhanced.startswith("5.5."):
            self._errors += 1
        return replies.TOO_MANY_ERRORS if self._errors >= self._tolerance.errors else reply

    async def _data(self, argument: bytes) -> Reply:
        envelope, protocol = self._dialog.envelope_for_data(argument), self._dialog.protocol
        self._is_in_data = True
        try:
            self._wire.send(bytes(replies.START_DATA))
            content = await self._read_content()
            return content if isinstance(content, Reply) else await self._submit(envelope, protocol, content)
        finally:
            self._is_in_data = False
            self._dialog.reset()

    async def _read_content(self) -> Content | Reply:
        try:
            return await read_data(self._wire, self._limits.message_size)
        except ContentRefused as refusal:
            log.refused(client=self._dialog.client.name, at="end of data", reply=str(refusal.reply))
            return refusal.reply
        except ClientLeft:
            raise
        except Exception:
            # Where the message ends is not known any more; what follows must not be read as commands.
            structlog.get_logger().exception("broken", what="a message could not be read")
            return replies.LOST_TRACK

    async def _submit(self, envelope: Envelope, protocol: str, content: Content) -> Reply:
        await self._wire.flush()
        if self.transport is None:
            raise ClientLeft
        self._submission = self._desk.open(self._dialog.client, envelope, self._arrival(protocol))
        try:
            reply = await self._submission.complete(content)
        finally:
            self._submission = None
            self._reset_timeout()
        if reply.is_success:
            self._errors = 0
        return reply

    def _arrival(self, protocol: str) -> Arrival:
        now = datetime.now(UTC)
        return Arrival(
            helo=self._dialog.hello,
            peer=self._dialog.client.peer,
            hostname=self._desk.hostname,
            protocol=protocol,
            id=new_id(now),
            received_at=now,
        )
