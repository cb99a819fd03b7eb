"""The connection under a session: its life, its one timer, and how it becomes TLS.

It is a subclass of aiosmtpd's protocol. What happens when somebody connects, octets come or a client leaves is ours:
aiosmtpd searches itself by reflection for each connection, wakes its task and sets a timer for each line, and cancels a
message that is being handed over.
"""

import asyncio
import ssl
from abc import ABC, abstractmethod
from typing import Any, Final

from aiosmtpd.smtp import SMTP

from relay.listener import replies
from relay.listener.tolerance import Tolerance
from relay.listener.wire import ClientLeft, Wire

_LOST: Final = "the connection was lost"


class TlsFailed(Exception):
    """TLS did not begin, and the connection is gone. The message says why, in OpenSSL's or the system's words."""


class Connection(SMTP, ABC):
    """One client's connection: plain first, and then perhaps under TLS. `wire` is its end to read and write."""

    def __init__(self, tolerance: Tolerance) -> None:
        # SMTP.__init__ searches itself by reflection at every connection (most of a connection's time) and asks DNS
        # for our name. Nothing of what it sets is used.
        self.loop = asyncio.get_running_loop()
        self.transport: Any = None
        self._timeout_handle: asyncio.TimerHandle | None = None
        self._tolerance = tolerance
        self._wire = Wire(self.loop)
        self._is_protected = False
        # Until the greeting, and while TLS begins, nothing that we said would be understood.
        self._is_mute = True

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that ends when the session has ended."""
        assert self._handler_coroutine is not None
        return self._handler_coroutine

    @property
    @abstractmethod
    def is_handing_over(self) -> bool:
        """Whether a message is on its way from us, so that silence is ours."""

    @property
    def is_protected(self) -> bool:
        """Whether TLS is up."""
        return self._is_protected

    def abort(self) -> None:
        """Cut the connection off."""
        if self.transport is not None:
            self.transport.abort()

    def hang_up(self, last_words: bytes) -> None:
        """Say a last reply, where the client can hear it, and close."""
        if self._is_mute:
            self.abort()
        else:
            self._wire.hang_up(last_words)

    async def begin_tls(self, context: ssl.SSLContext, unread: bytes = b"") -> None:
        """Put the connection under TLS, as its server; reading must be paused. Raises TlsFailed.

        Whatever was read in plain before is forgotten (RFC 3207 section 4.2), but for `unread`: the first octets of
        TLS that have come already.
        """
        plain = self.transport
        if plain is None or plain.is_closing():
            raise TlsFailed(_LOST)
        self._is_mute = True
        self._wire = Wire(self.loop)
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
        self._wire.connect(protected)

    @property
    def tls_version(self) -> str:
        """Which TLS protects the connection ("TLSv1.3"); "" where none does."""
        protection = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        return str(protection.version()) if protection is not None else ""

    def unread(self) -> bytes:
        """Stop reading, and return what has come. Only `begin_tls` may follow. Raises ClientLeft."""
        self.pause()
        return self._wire.take_all()

    def pause(self) -> None:
        """Read nothing more from the network for now. Raises ClientLeft."""
        if self.transport is None or self.transport.is_closing():
            raise ClientLeft
        self.transport.pause_reading()

    # The life of the connection; these replace aiosmtpd's.

    def connection_made(self, transport: Any) -> None:
        """Somebody is there: begin the session."""
        self.transport = transport
        self._wire.connect(transport)
        # One timer a connection, that looks when something was last heard; setting one anew each time costs more.
        self._timeout_handle = self.loop.call_later(self._tolerance.idle_seconds, self._timeout_cb)
        self._handler_coroutine = self.loop.create_task(self._handle_client())

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's own
        """Nobody is there any more. Where TLS fails, the loop tells it or we do, or both."""
        if self.transport is None:
            return
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self.transport = None
        self._wire.lose()

    def data_received(self, data: bytes) -> None:
        """Octets have come."""
        self._wire.put(data)

    def eof_received(self) -> bool:
        """The client sends no more, but may still wait for replies: what has come is worked off (nc does this)."""
        self._wire.end()
        # Under TLS there are no half-open connections.
        return not self._is_protected and not self._is_mute

    def pause_writing(self) -> None:
        """The client does not read what we say."""
        self._wire.fill()

    def resume_writing(self) -> None:
        """It reads again."""
        self._wire.drain()

    def _timeout_cb(self) -> None:
        silent = 0.0 if self.is_handing_over else self.loop.time() - self._wire.heard_at
        rest = self._tolerance.idle_seconds - silent
        if rest <= 0:
            # Once more later: a client that does not read even this is cut off then.
            self.hang_up(bytes(replies.IDLE))
            rest = self._tolerance.idle_seconds
        self._timeout_handle = self.loop.call_later(rest, self._timeout_cb)

    async def _shake_hands(self, plain: Any, context: ssl.SSLContext, unread: bytes) -> asyncio.Transport | None:
        upgrade = self.loop.start_tls(
            plain,
            self,
            context,
            server_side=True,
            ssl_handshake_timeout=self._tolerance.handshake_seconds,
            ssl_shutdown_timeout=self._tolerance.goodbye_seconds,
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
