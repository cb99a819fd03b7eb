"""Run as a program: `python -m tests.bench.floor ORDER`, what the two libraries take that Relay stands on, and no more.

aiosmtpd takes each message, and aiosmtplib hands it on while the client waits, over connections that are kept for each
sender. There is no queue, no check, no change and no log.
"""

import asyncio
import json
import signal
import ssl
import sys
from dataclasses import asdict, dataclass

import aiosmtplib
import uvloop
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.bench.letter import PASSWORD
from tests.peers.system import LOOPBACK

_LARGEST = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class FloorOrder:
    """Where it listens, and the upstream: `ca_file` "" is no TLS, `has_logins`: the sender is also the account."""

    port: int
    upstream: int
    connections: int
    has_logins: bool
    ca_file: str

    def text(self) -> str:
        """Return it as the program's argument."""
        return json.dumps(asdict(self))


class _Account:
    """The connections of one sender."""

    def __init__(self, sender: str, order: FloorOrder, context: ssl.SSLContext | None) -> None:
        self._sender = sender
        self._order = order
        self._context = context
        self._free = asyncio.Semaphore(order.connections)
        self._idle: list[aiosmtplib.SMTP] = []

    async def hand_over(self, envelope: Envelope) -> str:
        """Return the upstream's words for a message."""
        content = envelope.original_content
        assert isinstance(content, bytes)
        async with self._free:
            client = self._idle.pop() if self._idle else await self._open()
            _, text = await client.sendmail(self._sender, envelope.rcpt_tos, content)
            self._idle.append(client)
        return text

    async def _open(self) -> aiosmtplib.SMTP:
        client = aiosmtplib.SMTP(
            hostname=LOOPBACK,
            port=self._order.upstream,
            start_tls=self._context is not None,
            tls_context=self._context,
            local_hostname="floor.test",
        )
        await client.connect()
        if self._order.has_logins:
            await client.auth_plain(self._sender, PASSWORD)
        return client


class _Handler:
    """aiosmtpd's hook for a whole message."""

    def __init__(self, order: FloorOrder) -> None:
        self._order = order
        self._context = ssl.create_default_context(cafile=order.ca_file) if order.ca_file else None
        self._accounts: dict[str, _Account] = {}

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        sender = str(envelope.mail_from)
        account = self._accounts.get(sender)
        if account is None:
            account = self._accounts[sender] = _Account(sender, self._order, self._context)
        return f"250 2.0.0 Ok: {await account.hand_over(envelope)}"


async def _serve(order: FloorOrder) -> None:
    handler = _Handler(order)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await loop.create_server(
        lambda: SMTP(handler, hostname="floor.test", data_size_limit=_LARGEST), LOOPBACK, order.port, backlog=1000
    )
    await stop.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(FloorOrder(**json.loads(sys.argv[1]))))
