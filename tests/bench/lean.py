"""Run as a program: `python -m tests.bench.lean ORDER`, the least that a message costs in Python.

It does what Relay does with a message whose way is free, and nothing else: strict parsing, ownership, a route, the
header in one pass, Received, one write for each group of commands, a line of the log and a row of the history, both
written behind. It has no limits, no TLS, no logins, no timers and no tests, and believes its clients and its server.
Relay beside it says what all of that costs.
"""

import asyncio
import json
import os
import re
import secrets
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from email.utils import formatdate
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.peers.system import LOOPBACK

_PATH = re.compile(rb"(?i:FROM|TO):<([\w.+-]+)@([\w.-]+)>(?: [\w=.-]+)*\Z")
_FIELD = re.compile(rb"([!-9;-~]+):([^\r]*(?:\r\n[ \t][^\r]*)*)\r\n")
_AUTHOR = re.compile(rb"[^<]*<([^<>\s]+)>\s*\Z|\s*([^<>\s]+)\s*\Z")
_DROPPED = frozenset({b"bcc", b"resent-bcc", b"return-path", b"sender", b"organization", b"x-mailer"})
_SET = b"Organization: Acme Jets\r\nX-Mailer: contact center\r\n"
_EHLO = b"250-lean.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 67108864\r\n"
_BEHIND_SECONDS = 0.25
# A row of the message, one of each recipient's copy and one of the attempt, with indexes as people search.
_SCHEMA = """
PRAGMA journal_mode=WAL;
CREATE TABLE message (id TEXT PRIMARY KEY, sender TEXT, profile TEXT, server TEXT, account TEXT, size INT, state TEXT,
  reply TEXT, created REAL, delivered REAL, message_id TEXT);
CREATE TABLE recipient (message TEXT, address TEXT, state TEXT, reply TEXT);
CREATE TABLE attempt (message TEXT, number INT, started REAL, ended REAL, reply TEXT, changes TEXT);
CREATE INDEX message_created ON message (created);
CREATE INDEX message_message_id ON message (message_id);
CREATE INDEX recipient_message ON recipient (message);
CREATE INDEX recipient_address ON recipient (address);
"""
_INSERTS = (
    "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "INSERT INTO recipient VALUES (?, ?, ?, ?)",
    "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?)",
)
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, inf)


@dataclass(frozen=True, slots=True)
class LeanOrder:
    """Where it listens, its upstream, and the folder of its log and history."""

    port: int
    upstream: int
    connections: int
    folder: str

    def text(self) -> str:
        """Return it as the program's argument."""
        return json.dumps(asdict(self))


@lru_cache(8192)
def _address(argument: bytes) -> tuple[bytes, str] | None:
    """Return an address of MAIL or RCPT, and how it compares; None for what is none."""
    found = _PATH.match(argument)
    if found is None:
        return None
    whole = found[1] + b"@" + found[2]
    return whole, whole.decode().lower()


class _Behind:
    """Lines and rows that a thread writes, some at a time."""

    def __init__(self, folder: Path) -> None:
        self.lines: deque[str] = deque()
        self.rows: deque[tuple[Any, ...]] = deque()
        self._log = (folder / "lean.log").open("a")
        self._database = sqlite3.connect(folder / "lean.db", check_same_thread=False)
        self._database.executescript(_SCHEMA)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_BEHIND_SECONDS)
            lines = [self.lines.popleft() for _ in range(len(self.lines))]
            rows = [self.rows.popleft() for _ in range(len(self.rows))]
            self._log.write("".join(lines))
            self._log.flush()
            with self._database:
                for number, insert in enumerate(_INSERTS):
                    self._database.executemany(insert, [one for row in rows for one in row[number]])


class _Server(asyncio.Protocol):
    """A connection to the upstream. Replies are their last lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._replies: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\r\n")
        self._rest = lines.pop()
        self._replies.extend(line for line in lines if line[3:4] != b"-")
        if self._waiter is not None and len(self._replies) >= self._wanted and not self._waiter.done():
            self._waiter.set_result(None)

    async def replies(self, number: int) -> list[bytes]:
        if len(self._replies) < number:
            self._wanted, self._waiter = number, asyncio.get_running_loop().create_future()
            await self._waiter
        return [self._replies.popleft() for _ in range(number)]


class _Lean:
    """The relay: its connections to the upstream, and what it writes behind."""

    def __init__(self, order: LeanOrder) -> None:
        self._order = order
        self._idle: list[_Server] = []
        self._free = asyncio.Semaphore(order.connections)
        self._behind = _Behind(Path(order.folder))
        self._counts: Counter[str | float] = Counter()

    async def deliver(self, sender: tuple[bytes, str], recipients: list[tuple[bytes, str]], content: bytes) -> bytes:
        began = time.time()
        id_ = secrets.token_hex(12)
        end = content.find(b"\r\n\r\n") + 2
        header = _header(content[:end], sender[0], id_, began)
        body = content[end:]
        async with self._free:
            server = self._idle.pop() if self._idle else await self._open()
            commands = [b"MAIL FROM:<%b>\r\n" % sender[0], *[b"RCPT TO:<%b>\r\n" % one[0] for one in recipients]]
            server.transport.write(b"".join([*commands, b"DATA\r\n"]))
            await server.replies(len(recipients) + 2)
            server.transport.writelines((header, body.replace(b"\r\n.", b"\r\n.."), b".\r\n"))
            (reply,) = await server.replies(1)
            self._idle.append(server)
        text, ended = reply.decode("ascii", "replace"), time.time()
        self._count(ended - began)
        names = [one[1] for one in recipients]
        account = f"acmejets/{sender[1]}"
        facts = {"event": "delivered", "id": id_, "sender": sender[1], "recipients": names, "size": len(content)}
        facts |= {"profile": sender[1], "server": "acmejets", "account": account, "upstream": text}
        self._behind.lines.append(json.dumps({**facts, "time": began, "seconds": round(ended - began, 3)}) + "\n")
        profile = (sender[1], sender[1], "acmejets", account)
        row = (id_, *profile, len(content), "delivered", text, began, ended, "")
        copies = [(id_, name, "delivered", text) for name in names]
        self._behind.rows.append(((row,), copies, ((id_, 1, began, ended, text, ""),)))
        return b"250 2.0.0 Ok: delivered: %b\r\n" % reply[4:]

    def _count(self, seconds: float) -> None:
        self._counts["delivered"] += 1
        self._counts[next(bound for bound in _BUCKETS if seconds <= bound)] += 1

    async def _open(self) -> _Server:
        loop = asyncio.get_running_loop()
        _, server = await loop.create_connection(_Server, LOOPBACK, self._order.upstream)
        await server.replies(1)
        server.transport.write(b"EHLO lean.test\r\n")
        await server.replies(1)
        return server


def _header(header: bytes, identity: bytes, id_: str, now: float) -> bytes:
    """Return the header that leaves, decided field by field."""
    kept = [f"Received: from client by lean.test with ESMTP id {id_};\r\n\t{formatdate(now)}\r\n".encode()]
    has_id = False
    for field in _FIELD.finditer(header):
        name = field[1].lower()
        if name in _DROPPED:
            continue
        if name == b"from":
            author = _AUTHOR.match(field[2])
            is_ours = author is not None and identity in author.groups()
            kept.append(field[0] if is_ours else b"From: <%b>\r\n" % identity)
            continue
        has_id = has_id or name == b"message-id"
        kept.append(field[0])
    kept.append(_SET if has_id else _SET + f"Message-ID: <{id_}@lean.test>\r\n".encode())
    return b"".join(kept)


class _Client(asyncio.Protocol):
    """A session: commands are answered where their octets arrive."""

    def __init__(self, relay: _Lean) -> None:
        self._relay = relay
        self._rest = b""
        self._sender: tuple[bytes, str] | None = None
        self._recipients: list[tuple[bytes, str]] = []
        self._is_data = False
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"220 lean.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if self._task is None:
            self._work()

    def _work(self) -> None:
        said = []
        while self._task is None:
            mark = b"\r\n.\r\n" if self._is_data else b"\r\n"
            end = self._rest.find(mark)
            if end < 0:
                break
            part, self._rest = self._rest[:end], self._rest[end + len(mark) :]
            if self._is_data:
                self._is_data = False
                self._task = asyncio.get_running_loop().create_task(self._submit(part + b"\r\n"))
                break
            verb, _, argument = part.partition(b" ")
            said.append(_COMMANDS[verb.upper()](self, argument))
        if said:
            self._transport.write(b"".join(said))

    async def _submit(self, content: bytes) -> None:
        assert self._sender is not None
        if (
            b"\0" in content
            or content.count(b"\r") != content.count(b"\n")
            or content.count(b"\r\n") < content.count(b"\n")
        ):
            reply = b"554 5.6.0 No message\r\n"
        else:
            content = content.replace(b"\r\n..", b"\r\n.")
            reply = await self._relay.deliver(self._sender, self._recipients, content)
        self._sender, self._recipients, self._task = None, [], None
        self._transport.write(reply)
        if self._rest:
            self._work()

    def ehlo(self, _: bytes) -> bytes:
        return _EHLO

    def mail(self, argument: bytes) -> bytes:
        self._sender, self._recipients = _address(argument), []
        return b"250 2.1.0 Ok\r\n" if self._sender else b"501 5.1.7 No address\r\n"

    def rcpt(self, argument: bytes) -> bytes:
        found = _address(argument)
        if found is None or self._sender is None:
            return b"501 5.1.3 No address\r\n"
        self._recipients.append(found)
        return b"250 2.1.5 Ok\r\n"

    def data(self, _: bytes) -> bytes:
        self._is_data = bool(self._recipients)
        return b"354 Go on\r\n" if self._is_data else b"503 5.5.1 Send RCPT first\r\n"

    def rset(self, _: bytes) -> bytes:
        self._sender, self._recipients = None, []
        return b"250 2.0.0 Ok\r\n"

    def quit(self, _: bytes) -> bytes:
        self._transport.write(b"221 2.0.0 Bye\r\n")
        self._transport.close()
        return b""


_COMMANDS = {
    b"EHLO": _Client.ehlo,
    b"HELO": _Client.ehlo,
    b"MAIL": _Client.mail,
    b"RCPT": _Client.rcpt,
    b"DATA": _Client.data,
    b"RSET": _Client.rset,
    b"QUIT": _Client.quit,
}


async def _serve(order: LeanOrder) -> None:
    relay, loop, stop = _Lean(order), asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await loop.create_server(lambda: _Client(relay), LOOPBACK, order.port, backlog=1000)
    await stop.wait()
    os._exit(0)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(LeanOrder(**json.loads(sys.argv[1]))))
