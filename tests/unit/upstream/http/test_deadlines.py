"""A provider that is silent ends the attempt, in each phase: a request without a deadline would hang for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.directory.model import Account, Auth, Kind, Meaning, Server
from relay.directory.tables import OAuthClient
from relay.secrets.secret import Secret
from relay.upstream.outcome import Failure, Phase
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Progress, Timeouts
from tests.peers.system import LOOPBACK
from tests.unit.upstream.http.api_kit import ME, graph_at, transfer_to

SHORT = Timeouts(connect=0.2, reply=0.2, chunk=0.2, final=0.2, idle=5)
HEAD = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"


def gmail_at(url: str) -> Server:
    oauth = OAuthClient(provider="google", client_id="app")
    return Server(name="gmail", kind=Kind.GMAIL, api_url=url, auth=Auth.OAUTH2, username=ME, oauth=oauth)


def ses_at(url: str) -> Server:
    return Server(name="ses", kind=Kind.HTTPS, api="ses", api_url=url, username="AKIDEXAMPLE", address=ME)


def mailgun_at(url: str) -> Server:
    return Server(name="mailgun", kind=Kind.HTTPS, api="mailgun", api_url=url, username="mg.acme.example", address=ME)


@asynccontextmanager
async def silent_provider(trickle: bytes = b"") -> AsyncIterator[str]:
    """One that takes every request and says nothing to it, or what begins an answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"Hello\r\n")
            writer.write(trickle)
            while not reader.at_eof():
                await reader.read(1000)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    async with server:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"


async def failure_at(server: Server, **facts: Any) -> Failure:
    upstream = Upstream("relay.test", SHORT)
    account = Account(server.name, server.username)
    transfer = transfer_to(server, **{"account": account, "secret": Secret("right", "v1"), **facts})
    try:
        outcome = await upstream.deliver(transfer, Progress())
    finally:
        await upstream.aclose()
    assert outcome.accepted is None
    assert outcome.failure is not None
    return outcome.failure


@pytest.mark.parametrize("trickle", [b"", HEAD], ids=["nothing is said", "an answer does not end"])
@pytest.mark.parametrize("server_at", [graph_at, gmail_at, ses_at, mailgun_at])
async def test_an_answer_that_does_not_come_may_mean_that_it_was_sent(
    server_at: Callable[[str], Server], trickle: bytes
) -> None:
    async with silent_provider(trickle) as url:
        failure = await failure_at(server_at(url))
    assert (failure.meaning, failure.phase, failure.from_server) == (Meaning.UNKNOWN, Phase.FINAL, False)


@pytest.mark.parametrize("server_at", [graph_at, gmail_at, ses_at, mailgun_at])
async def test_a_handshake_that_does_not_end_is_temporary(server_at: Callable[[str], Server]) -> None:
    async with silent_provider() as url:
        failure = await failure_at(server_at(url.replace("http://", "https://")))
    assert (failure.meaning, failure.from_server) == (Meaning.TEMPORARY, False)
