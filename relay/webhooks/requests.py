"""The requests to webhooks, by httpcore: one POST, its deadline, and what the answer means.

Imported with the first event: most relays have no webhook.

SECURITY: certificates are checked against the system's authorities (and SSL_CERT_FILE), and no redirect is followed. Of
an answer only its status and Retry-After are looked at; of its body a little is read, so that the connection can be
kept.
"""

import asyncio
import ssl
from collections.abc import Mapping

import httpcore2

from relay.webhooks.protocol import Answer, answer_of

SECONDS = 10.0
"""How long a webhook has for its answer. The lead goes to nobody else before that (`relay.cluster.leader_election`)."""
_MOST_OCTETS = 64 * 1024
_MOST_CONNECTIONS = 8
_KEPT_SECONDS = 60.0


class Requests:
    """Posts events, over connections that are kept."""

    def __init__(self) -> None:
        self._pool: httpcore2.AsyncConnectionPool | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post one event. Raises nothing but what cancels it."""
        try:
            async with asyncio.timeout(SECONDS):
                return await self._post(url, headers, body)
        except TimeoutError:
            return Answer(reason=f"no answer within {SECONDS:g} seconds")
        except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            return Answer(reason=_words(error))
        except httpcore2.UnsupportedProtocol as error:
            return Answer(reason=_words(error))

    async def aclose(self) -> None:
        """Close all connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if self._pool is None:
            tls = await asyncio.to_thread(ssl.create_default_context)
            self._pool = self._pool or httpcore2.AsyncConnectionPool(
                tls, max_connections=_MOST_CONNECTIONS, keepalive_expiry=_KEPT_SECONDS
            )
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        sent.append((b"content-length", str(len(body)).encode()))
        async with self._pool.stream("POST", url, headers=sent, content=body) as response:
            octets = 0
            async for piece in response.aiter_stream():
                octets += len(piece)
                if octets > _MOST_OCTETS:
                    break
            return answer_of(response.status, dict(response.headers).get(b"retry-after", b""))


def _words(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"it cannot be reached: {words or type(error).__name__}"
