"""The requests to a provider's API by httpx2 over connections that are kept, with a deadline for every phase.

What a request says last is its final dot: until then the provider has no whole message, and a lost connection means
that nobody has it. A failure is one of `relay.upstream.outcome`, in the phases that SMTP has.

SECURITY: certificates are checked as the server's settings say, no redirect is followed, no more of an answer is read
than an answer has, and the token stands in no exception that comes out of here.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from relay.directory.model import Meaning, Server
from relay.mail.reply import Reply, clean_text
from relay.store.db.errors import StoreError
from relay.system.clock import utc_now
from relay.upstream.dial import Contexts
from relay.upstream.outcome import Failed, Failure, Peer, Phase, Tls, failure_of, garbage, own_failure
from relay.upstream.transaction import Progress, Timeouts

_MOST_OCTETS = 256 * 1024
_MOST_WORDS = 300
_TIME = re.compile(r"try again after (\w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d (?:UTC|GMT))")
_STOPPED = Reply(451, "4.3.0", "Something went wrong here before the message was sent")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an API answered: the HTTP status, its error's name and words ("" where there is none), and the JSON.

    `octets` is how a good answer begins, for who asked for that.
    `retry_after` is how many seconds it asks to wait, 0 where it does not say.
    """

    status: int
    reason: str = ""
    words: str = ""
    said: Mapping[str, Any] | None = None
    retry_after: int = 0
    location: str = ""
    octets: bytes = field(default=b"", repr=False)

    @property
    def is_good(self) -> bool:
        """Whether what was asked for is done."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The answer in one line, as people and the table of meanings read it."""
        named = ": ".join(filter(None, [self.reason, self.words])) or "no words"
        wait = f"; retry after {self.retry_after} s" if self.retry_after else ""
        return f"{named} (HTTP status {self.status}){wait}"


class _GateFailed(Exception):
    """What was to be done before the final dot raised; the message says what."""


class ApiClient:
    """The connections of one account to the API of a server. `close_idle_after` is in seconds."""

    def __init__(self, server: Server, tls: ssl.SSLContext, timeouts: Timeouts) -> None:
        self.server = server
        self.timeouts = timeouts
        self.tls: Tls | None = None
        self.address = ""
        self.certificate: bytes | None = None
        times = httpx2.Timeout(connect=timeouts.connect, read=timeouts.reply, write=timeouts.chunk, pool=None)
        limits = httpx2.Limits(max_keepalive_connections=server.max_connections, keepalive_expiry=timeouts.idle)
        self._http = httpx2.AsyncClient(verify=tls, timeout=times, limits=limits, follow_redirects=False)

    @classmethod
    async def open(cls, server: Server, contexts: Contexts, timeouts: Timeouts) -> "ApiClient":
        """Return a client; nothing is connected yet. Raises Failed where its `ca_file` cannot be used."""
        try:
            context = await contexts.get(verify=server.verify_tls, ca_file=server.ca_file)
        except OSError as error:
            raise Failed(failure_of(error, Phase.STARTTLS, _peer(server, timeouts.connect), server.answers)) from None
        return cls(server, context, timeouts)

    async def aclose(self) -> None:
        """Close all connections."""
        with suppress(httpx2.HTTPError, OSError):
            await self._http.aclose()

    async def ask(
        self,
        method: str,
        url: str,
        token: str,
        *,
        json_body: Mapping[str, Any] | None = None,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        phase: Phase = Phase.MAIL,
        most: int = 0,
    ) -> Answer:
        """Make a request that sends no message; nobody has one by it. Raises Failed where there is no answer.

        With `most` a good answer is none of JSON, and no more than its first so many octets are read.
        """
        body = json.dumps(json_body).encode() if json_body is not None else content
        kind = {"Content-Type": "application/json"} if json_body is not None else {}
        request = self._request(method, url, token, {**kind, **(headers or {})}, content=body)
        return await self._answer(request, Progress(phase=phase), phase, most)

    async def send(
        self,
        url: str,
        token: str,
        progress: Progress,
        pieces: Iterable[bytes],
        size: int,
        headers: Mapping[str, str],
        method: str = "POST",
    ) -> Answer:
        """Make the request by which a message is sent; `size` is how many octets its pieces have together.

        Before its last piece the gate of `progress` is passed, and the final dot is noted. Raises Failed: where its
        phase is FINAL, the provider may have the message.
        """
        progress.phase = Phase.CONTENT
        body = _guarded(pieces, progress)
        if not size:  # its header is all there is to it
            try:
                await anext(body, b"")
            except _GateFailed as error:
                raise _stopped(error) from None
        given = body if size else b""
        request = self._request(method, url, token, {**headers, "Content-Length": str(size)}, content=given)
        return await self._answer(request, progress, Phase.CONTENT)

    def _request(self, method: str, url: str, token: str, headers: Mapping[str, str], *, content: Any) -> Any:
        own = {"Accept": "application/json", "User-Agent": "Relay"}
        login = {"Authorization": f"Bearer {token}"} if token else {}
        return self._http.build_request(method, url, headers={**own, **login, **headers}, content=content)

    async def _answer(self, request: Any, progress: Progress, phase: Phase, most: int = 0) -> Answer:
        try:
            response = await self._http.send(request, stream=True)
            try:
                self._look_at(response)
                # However slowly an answer trickles: what is read here was said within this time.
                async with asyncio.timeout(self.timeouts.of(progress.phase)):
                    return await (_begin(response, most) if most and response.is_success else _read(response))
            finally:
                await response.aclose()
        # From None: these exceptions know the request, and with it the token.
        except _GateFailed as error:
            raise _stopped(error) from None
        except StoreError as error:  # a large body is read as it leaves
            raise Failed(own_failure(Phase.CONTENT, _STOPPED, Meaning.TEMPORARY, str(error))) from None
        except (httpx2.HTTPError, OSError, ValueError) as error:
            now = Phase.FINAL if progress.final_dot_sent else phase
            raise Failed(_failure(error, now, self.server, self.timeouts)) from None

    def _look_at(self, response: Any) -> None:
        """Keep how the way is protected, for whoever asks."""
        stream = response.extensions.get("network_stream")
        if stream is None:
            return
        secured = stream.get_extra_info("ssl_object")
        peer = stream.get_extra_info("server_addr")
        if peer:
            self.address = f"{peer[0]}:{peer[1]}"
        if secured is not None:
            cipher = secured.cipher()
            self.tls = Tls(str(secured.version()), cipher[0] if cipher else "")
            self.certificate = secured.getpeercert(binary_form=True)


def _stopped(error: _GateFailed) -> Failed:
    detail = f"before the final dot: {error}"
    return Failed(own_failure(Phase.CONTENT, _STOPPED, Meaning.TEMPORARY, detail))


async def _guarded(pieces: Iterable[bytes], progress: Progress) -> AsyncIterator[bytes]:
    """Yield the pieces, and pass the gate before the last that has any octets: behind it the provider has all."""
    rest = filter(None, pieces)
    piece = next(rest, b"")
    for following in rest:
        yield piece
        piece = following
        await asyncio.sleep(0)  # a fast server would take the whole message before anyone else had a turn
    if (gate := progress.before_final_dot) is not None:
        try:
            await gate()
        except Exception as error:
            raise _GateFailed(f"{type(error).__name__}: {error}") from error
    progress.note_final_dot()
    yield piece


async def _begin(response: Any, most: int) -> Answer:
    octets = b""
    async for chunk in response.aiter_bytes():
        octets += chunk
        if len(octets) >= most:
            break
    return Answer(response.status_code, octets=octets[:most])


async def _read(response: Any) -> Answer:
    octets, headers = b"", response.headers
    async for chunk in response.aiter_bytes():
        octets += chunk
        if len(octets) > _MOST_OCTETS:
            raise ValueError("the answer does not end")
    try:
        said = json.loads(octets) if octets.strip() else None
    except (ValueError, RecursionError):
        said = None
    table = said if isinstance(said, dict) else None
    reason, words = ("", "")
    if response.status_code >= 400:
        reason, words = _error_of(table, octets, str(headers.get("x-amzn-errortype", "")))
    location = str(headers.get("location", ""))
    wait = _seconds(headers.get("retry-after", "")) or _seconds_until(words)
    return Answer(response.status_code, reason, words, table, wait, location)


def _error_of(said: Mapping[str, Any] | None, octets: bytes, amazon: str) -> tuple[str, str]:
    """Return the name and the words of an error.

    Graph: {"error": {"code", "message"}} (learn.microsoft.com/graph/errors). Google: {"error": {"code", "message",
    "status", "errors": [{"reason"}]}} (developers.google.com/gmail/api/guides/handle-errors). Amazon: {"message"}, in
    some errors with a capital, and the name up to a colon in a header (smithy.io/2.0/aws/protocols/aws-restjson1-
    protocol.html). Mailgun: {"message"} or plain text (documentation.mailgun.com, "API Response Codes").
    """
    error = said.get("error") if said is not None else None
    if not isinstance(error, dict):
        message = next((said[key] for key in ("message", "Message") if said.get(key)), "") if said else ""
        words = str(message) or octets[:_MOST_WORDS].decode("utf-8", "replace")
        return clean_text(amazon.partition(":")[0])[:80], clean_text(words)[:_MOST_WORDS]
    code, reasons = error.get("code"), error.get("errors")
    first = reasons[0] if isinstance(reasons, list) and reasons and isinstance(reasons[0], dict) else {}
    reason = first.get("reason") or (code if isinstance(code, str) else "") or error.get("status") or ""
    return clean_text(str(reason))[:80], clean_text(str(error.get("message") or ""))[:_MOST_WORDS]


def _seconds(text: str) -> int:
    """Return the seconds of a Retry-After (RFC 9110 section 10.2.3); 0 for a date, which no such API writes."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else 0


def _seconds_until(words: str) -> int:
    """Return the seconds until the time that an error names, as Mailgun does; 0 where there is none."""
    found = _TIME.search(words)
    try:
        seconds = (parsedate_to_datetime(found[1]) - utc_now()).total_seconds() if found else 0.0
    except ValueError:
        return 0
    return max(0, min(int(seconds), 999_999))


def _peer(server: Server, seconds: float) -> Peer:
    return Peer(server.effective_host, server.effective_port, seconds)


def _failure(error: Exception, phase: Phase, server: Server, timeouts: Timeouts) -> Failure:
    """Return the failure that an exception of a request is."""
    root = _root(error)
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)):
        phase = Phase.STARTTLS if isinstance(root, ssl.SSLError) else Phase.CONNECT
    if root is None:
        return garbage(phase, clean_text(str(error)))
    return failure_of(root, phase, _peer(server, timeouts.of(phase)), server.answers)


def _root(error: Exception) -> OSError | None:
    """Return the system's error behind one of httpx2, None where the answer is none of HTTP."""
    known: BaseException | None = error
    found: OSError | None = None
    while known is not None:
        if isinstance(known, BaseExceptionGroup):  # anyio: one for each address
            known = known.exceptions[0]
            continue
        found = known if isinstance(known, OSError) else found
        known = known.__cause__ or known.__context__
    if found is not None:
        return found
    if isinstance(error, httpx2.TimeoutException):
        return TimeoutError()
    is_lost = isinstance(error, httpx2.NetworkError) or "disconnected" in str(error)
    return ConnectionResetError() if is_lost else None
