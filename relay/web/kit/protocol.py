"""HTTP/1.1 with strangers: so many connections and no more, and whoever begins a request goes on with it.

SECURITY: a connection costs a descriptor, and without descriptors no mail comes in (`relay.system.descriptors` counts
these in). Who opens many, never ends the head of a request, or does not read the answer, keeps the pages busy at most;
and who comes when there are too many takes the place of the one that has waited longest without asking anything.
"""

import asyncio
import re
from http import HTTPStatus
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from relay.web.kit.guard import MOST_HEAD, MOST_HEADERS

_PIECE = 4 * 1024  # octets: what is made of them is one step of the loop, also where each is a chunk of its own
_BLANKS = re.compile(rb"(?:\A|\n)[^\s:]*:[ \t]{256}")
_HEAD_END = re.compile(rb"\n\r?\n")
_TOO_MUCH = f"a request has at most {MOST_HEADERS} header fields, of {MOST_HEAD // 1024} KiB in all"


class _Bounded(h11.Connection):
    """The server's side of HTTP/1.1, which refuses what h11 would take long to read.

    SECURITY: h11 takes time with the square of the blanks behind a field's name. It bounds a head only until all of it
    is there, and not how many lines it has. `status` is what the last refusal is told with.
    """

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MOST_HEAD)
        self.status = 400
        self._is_chunked = self._has_blanks = False

    def receive_data(self, data: bytes) -> None:
        """Take more; the fields behind a chunked body come with the piece of it that is last."""
        super().receive_data(data)
        if self._is_chunked and self.their_state is h11.SEND_BODY:
            self._has_blanks = _BLANKS.search(self.trailing_data[0]) is not None

    def next_event(self) -> Any:
        """Go on, unless a head is not to be read."""
        try:
            self._look()
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self.status = error.error_status_hint
            raise
        if isinstance(event, h11.Request):
            self._is_chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
            self._has_blanks = False
        return event

    def _look(self) -> None:
        """Raise RemoteProtocolError for a head, or fields behind a body, that are not to be read."""
        if self.their_state is h11.IDLE:
            waiting = self.trailing_data[0]
            end = _HEAD_END.search(waiting)
            lines = waiting.count(b"\n", 0, end.end() if end else len(waiting))
            is_refused = lines > MOST_HEADERS + 2 or _BLANKS.search(waiting) is not None
        else:
            is_refused = self._has_blanks and self.their_state is h11.SEND_BODY
        if is_refused:
            raise h11.RemoteProtocolError("this head is not to be read", error_status_hint=431)


class WebProtocol(H11Protocol):
    """One of at most `most` connections. It is closed after `head_seconds` without a request, or `unread_seconds` in
    which nothing of an answer could be written.
    """

    most: ClassVar[int] = 250
    head_seconds: ClassVar[float] = 30.0
    unread_seconds: ClassVar[float] = 60.0
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _since: float = 0.0  # since when it waits for a request

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.conn: _Bounded = _Bounded()
        self._waiting = bytearray()  # was read, and is not looked at yet
        self._turn: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, in the place of another one where there are too many."""
        super().connection_made(transport)
        self._since = self.loop.time()
        if len(self.connections) > self.most and not self._replace_one():
            transport.abort()
        else:
            self._watch()

    def _replace_one(self) -> bool:
        """End the connection that has waited longest for a request; False where all are being answered."""
        others = (one for one in self.connections if isinstance(one, WebProtocol) and one is not self)
        waiting = [one for one in others if not one._is_answering and not one.transport.is_closing()]
        if not waiting:
            return False
        min(waiting, key=lambda one: one._since).transport.abort()
        return True

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def on_response_complete(self) -> None:
        """Wait for the next request, from now on."""
        self._since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Write no more until the other side has read, which it does in time."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the other side has read."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request of HTTP, or has too much before its body; what is being answered just ends."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            status = self.conn.status
            said = f"{_TOO_MUCH if status == 431 else msg}\n".encode()
            headers = [("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")]
            head = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase)
            for event in (head, h11.Data(data=said), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Go on; where much was read at once, piece by piece, between which the others of the loop have their turn."""
        self._waiting += data
        if self._turn is None:
            self._take_piece()
        else:
            self.transport.pause_reading()

    def _take_piece(self) -> None:
        """Go on with a piece, and look whether a whole head has come."""
        was_waiting, self._turn = self._turn is not None, None
        piece = bytes(self._waiting[:_PIECE])
        del self._waiting[:_PIECE]
        super().data_received(piece)
        self._watch()
        if self.transport.is_closing():
            self._waiting.clear()
        elif self._waiting:
            self.transport.pause_reading()
            self._turn = self.loop.call_soon(self._take_piece)
        elif was_waiting and not self.flow.read_paused:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._turn is not None:
            self._turn.cancel()
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        """Let the time run while a head is waited for. Between two requests uvicorn closes by itself."""
        if self._is_answering:
            self._forget()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
