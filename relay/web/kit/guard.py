"""What every request to the pages must fulfil before anything reads it, and what every answer bears.

SECURITY: the Host must be ours, so that no page of another site reaches us under a name of its own (DNS rebinding). A
request that changes something must come from a page of ours, as far as the browser says where it comes from (Origin,
Sec-Fetch-Site); the form's own key is checked beside that (`relay.web.kit.page_request`). No answer may be framed,
guessed at, or kept by a proxy, and a page runs no script and loads nothing but what this server has.
"""

import asyncio
import re
from collections.abc import Callable, Collection
from functools import cache
from typing import TypeAlias
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.config.endpoint import TcpAddress

_MIB = 1024 * 1024
LARGEST_FORM = _MIB
LARGEST_FOR_STRANGERS = 16 * 1024  # a name and a password
LARGEST_TABLE = 16 * _MIB  # twenty thousand agents as CSV
_FOR_STRANGERS = re.compile(r"/sign-in|/welcome/[^/]*")
_TABLES = re.compile(r"/(?:channels|agents)/-/import|/api/v1/(?:channels|agents)\.csv")
_BODY_SECONDS = 120.0
# What stands before a body, in octets.
MOST_HEAD = 16 * 1024
MOST_HEADERS = 100
MOST_ADDRESS = 8 * 1024
MOST_COOKIES = 4 * 1024
_UNKNOWN_HOST = "this server is not known by that name; open it by the [web] public_url of relay.toml"
_ELSEWHERE = "this form was sent from another site; open the page anew and send it from there"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# Asked by programs that know this machine by any name; they say nothing that is worth protecting.
_FOR_ANYBODY = frozenset({"/healthz", "/readyz"})
# Asked under any name with a token; the page of another site, which may say anything as one, has no good one.
_UNDER_ANY_NAME = "/metrics"
KNOWN_HOST = "relay.known_host"
"""The key in an ASGI scope that says whether Host means this server."""
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("Content-Security-Policy", CONTENT_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)


Refuse: TypeAlias = Callable[[str, int, str], Response]


def plain_refusal(path: str, status: int, sentence: str) -> Response:  # noqa: ARG001
    """Return a refusal in plain text."""
    return PlainTextResponse(sentence + "\n", status_code=status)


class Guard:
    """An ASGI application around the pages. `hosts` returns the values of Host that mean this server.

    `refuse` makes the answer to a request that goes no further, of its path, the status and a sentence.
    """

    def __init__(self, app: ASGIApp, hosts: Callable[[], Collection[str]], refuse: Refuse = plain_refusal) -> None:
        self._app = app
        self._hosts = hosts
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a bound on the body and our headers on the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS:
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
        else:
            await self._app(scope, _bounded(receive, largest_request(scope["path"])), send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        if (too_large := _head_refusal(scope)) is not None:
            return self._refuse(path, *too_large)
        host = headers.get("host", "").lower()
        if path in _FOR_ANYBODY:
            return None
        scope[KNOWN_HOST] = host in self._hosts()
        if not scope[KNOWN_HOST] and not (path == _UNDER_ANY_NAME and "authorization" in headers):
            return self._refuse(path, 421, _UNKNOWN_HOST)
        most = largest_request(path)
        if int(headers.get("content-length") or 0) > most:
            return self._refuse(path, 413, _too_large(most))
        if scope["method"] not in _SAFE and not self._is_ours(headers):
            return self._refuse(path, 403, _ELSEWHERE)
        return None

    def _is_ours(self, headers: Headers) -> bool:
        """Whether a browser says that a page of ours sent this. Programs say nothing, and bear no cookie."""
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] not in self._hosts():
            return False
        return headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}


class RequestTooLarge(HTTPException):
    """A request without a length turned out to be larger than `most` octets."""

    def __init__(self, most: int) -> None:
        super().__init__(413, _too_large(most))


def largest_request(path: str) -> int:
    """Return how many octets a request to a path may have."""
    if _FOR_STRANGERS.fullmatch(path):
        return LARGEST_FOR_STRANGERS
    return LARGEST_TABLE if _TABLES.fullmatch(path) else LARGEST_FORM


def _too_large(most: int) -> str:
    size = f"{most // _MIB} MiB" if most >= _MIB else f"{most // 1024} KiB"
    return f"a request to this address has at most {size}"


def _head_refusal(scope: Scope) -> tuple[int, str] | None:
    """Return the status and the sentence for a head that is too large to be looked at; None for all others."""
    fields = scope["headers"]
    if len(scope["raw_path"]) + len(scope["query_string"]) > MOST_ADDRESS:
        return 414, f"an address here has at most {MOST_ADDRESS // 1024} KiB"
    if len(fields) > MOST_HEADERS or sum(len(name) + len(value) for name, value in fields) > MOST_HEAD:
        return 431, f"a request has at most {MOST_HEADERS} header fields, of {MOST_HEAD // 1024} KiB in all"
    if sum(len(value) for name, value in fields if name == b"cookie") > MOST_COOKIES:
        return 431, f"the cookies of a request have at most {MOST_COOKIES // 1024} KiB; clear those of this address"
    return None


def _bounded(receive: Receive, most: int) -> Receive:
    """Let a body come in its time and of at most this size (octets).

    What is waited for behind it, that the client leaves, has no end.
    """
    loop = asyncio.get_running_loop()
    received, is_whole, deadline = 0, False, loop.time() + _BODY_SECONDS

    async def receive_some() -> Message:
        nonlocal received, is_whole
        try:
            async with asyncio.timeout_at(None if is_whole else deadline):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the request took too long to come") from None
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if received > most:
                raise RequestTooLarge(most)
        return message

    return receive_some


@cache
def hosts_of(public_url: str, address: TcpAddress) -> frozenset[str]:
    """Return the values of Host that mean the server at `address`, which people also know as `public_url`."""
    public = urlsplit(public_url)
    names = [public.netloc]
    if public.port is None and public.hostname:
        names.append(f"{public.netloc}:{443 if public.scheme == 'https' else 80}")
    bare = f"[{address.host}]" if ":" in address.host else address.host
    names += [f"{name}:{address.port}" for name in (bare, *_LOOPBACK_NAMES)]
    return frozenset(name.lower() for name in names)
