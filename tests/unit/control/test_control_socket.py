"""control.sock over a real unix socket: who may ask, what is answered, and what becomes of the socket file."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import Refused
from relay.control.transport import server
from relay.control.transport.client import ControlClient, NoRelay
from relay.control.transport.server import CommandServer
from relay.control.transport.socket import ControlSocket, ControlSocketError
from relay.system.peer_credentials import peer_uid
from tests.peers.rows import each_row
from tests.unit.control.control_kit import AdminOperations


@asynccontextmanager
async def listening(path: Path, operations: AdminOperations, state_dir: Path) -> AsyncIterator[ControlSocket]:
    control = ControlSocket(path, lambda: CommandServer(operations, state_dir))
    await control.start()
    try:
        yield control
    finally:
        await control.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
async def client(path: Path, tmp_path: Path, operations: AdminOperations) -> AsyncIterator[ControlClient]:
    async with listening(path, operations, tmp_path):
        yield ControlClient(path, tmp_path)


async def _raw(path: Path, request: bytes) -> tuple[int, Any]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_an_operation_runs_over_the_socket(client: ControlClient) -> None:
    records = await asyncio.to_thread(client.run, "server.list", {})
    assert [record["name"] for record in records] == ["acmejets", "other"]
    assert (await asyncio.to_thread(client.status))["running"] is True


async def test_a_refusal_comes_back_as_its_sentence(client: ControlClient) -> None:
    with pytest.raises(Refused, match="there is no server 'x'"):
        await asyncio.to_thread(client.run, "server.show", {"name": "x"})
    with pytest.raises(Refused, match=r"there is no operation 'server\.lst'"):
        await asyncio.to_thread(client.run, "server.lst", {})


async def test_a_test_streams_its_steps_and_its_refusal(client: ControlClient) -> None:
    params = {"name": "acmejets", "to": "you@customer.example"}
    await asyncio.to_thread(client.run, "server.set", {"name": "acmejets", "changes": ["host=127.0.0.1", "port=1"]})
    steps = await asyncio.to_thread(lambda: list(client.stream("server.test", params)))
    assert [(step["step"], step["ok"]) for step in steps] == [("resolve", True), ("connect", False)]
    with pytest.raises(Refused, match="there is no server 'x'"):
        await asyncio.to_thread(lambda: list(client.stream("server.test", {**params, "name": "x"})))


async def test_a_step_arrives_before_the_next_one_is_done(
    path: Path, tmp_path: Path, operations: AdminOperations
) -> None:
    """The second step waits until the first one has been read at the other end."""
    is_read = asyncio.Event()

    async def stepwise(name: str, params: object, actor: object = None) -> AsyncGenerator[list[dict[str, Any]]]:
        yield [{"step": "resolve"}]
        await is_read.wait()
        yield [{"step": "connect"}]

    operations.batches = stepwise  # type: ignore[method-assign]
    async with listening(path, operations, tmp_path):
        steps = ControlClient(path, tmp_path).stream("server.test", {})
        assert await asyncio.to_thread(next, steps) == {"step": "resolve"}
        is_read.set()
        assert await asyncio.to_thread(next, steps) == {"step": "connect"}
        assert await asyncio.to_thread(next, steps, None) is None


async def test_a_client_that_leaves_ends_the_test(path: Path, tmp_path: Path, operations: AdminOperations) -> None:
    is_closed = asyncio.Event()

    async def endless(name: str, params: object, actor: object = None) -> AsyncGenerator[list[dict[str, Any]]]:
        try:
            yield [{"step": "resolve"}]
            await asyncio.Event().wait()
        finally:
            is_closed.set()

    operations.batches = endless  # type: ignore[method-assign]
    async with listening(path, operations, tmp_path):
        steps = ControlClient(path, tmp_path).stream("server.test", {})
        assert await asyncio.to_thread(next, steps) == {"step": "resolve"}
        steps.close()
        async with asyncio.timeout(10):
            await is_closed.wait()


async def test_a_relay_with_another_state_dir_is_refused(path: Path, client: ControlClient, tmp_path: Path) -> None:
    other = ControlClient(path, tmp_path / "other")
    with pytest.raises(Refused, match=f"keeps its state in {tmp_path}, your settings say {tmp_path}/other"):
        await asyncio.to_thread(other.status)
    with pytest.raises(Refused, match="keeps its state in"):
        await asyncio.to_thread(other.run, "server.list", {})


async def test_a_link_to_the_same_state_dir_is_the_same(path: Path, client: ControlClient, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert (await asyncio.to_thread(ControlClient(path, link).status))["running"] is True


async def test_only_the_owner_and_root_may_ask(
    path: Path, client: ControlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "peer_uid", lambda connection: 12345)
    with pytest.raises(Refused, match="only root and the user that relay runs as"):
        await asyncio.to_thread(client.run, "server.list", {})
    with pytest.raises(Refused, match="only root and the user that relay runs as"):
        await asyncio.to_thread(client.status)


def test_the_kernel_says_who_connected() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()


def test_who_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 990)
    assert [server.may_ask(uid) for uid in (0, 990, 1000, 65534)] == [True, True, False, False]


async def test_the_socket_is_private_and_goes_with_the_relay(
    path: Path, operations: AdminOperations, tmp_path: Path
) -> None:
    previous = os.umask(0)
    try:
        async with listening(path, operations, tmp_path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(previous)
    assert not path.exists()


async def test_a_stale_socket_is_replaced(path: Path, operations: AdminOperations, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with pytest.raises(NoRelay):
        ControlClient(path, tmp_path).status()
    async with listening(path, operations, tmp_path):
        assert (await asyncio.to_thread(ControlClient(path, tmp_path).status))["running"] is True


async def test_a_second_relay_is_refused_and_the_first_keeps_its_socket(
    path: Path, client: ControlClient, operations: AdminOperations, tmp_path: Path
) -> None:
    second = ControlSocket(path, lambda: CommandServer(operations, tmp_path))
    with pytest.raises(ControlSocketError, match="another relay runs already and answers on"):
        await second.start()
    await second.stop()
    assert (await asyncio.to_thread(client.status))["running"] is True


async def test_a_path_that_is_too_long_for_a_socket_says_what_to_do(
    tmp_path: Path, operations: AdminOperations
) -> None:
    control = ControlSocket(tmp_path / ("x" * 100) / "control.sock", lambda: CommandServer(operations, tmp_path))
    with pytest.raises(ControlSocketError, match=r"at most 107 octets; set a shorter runtime_dir$"):
        await control.start()


async def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path, operations: AdminOperations) -> None:
    control = ControlSocket(tmp_path / "gone" / "control.sock", lambda: CommandServer(operations, tmp_path))
    with pytest.raises(ControlSocketError, match=r"control\.sock cannot be opened: No such file or directory$"):
        await control.start()


async def test_no_relay_behind_a_missing_or_impossible_path(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "none" / "none", tmp_path / ("x" * 200)):
        with pytest.raises(NoRelay):
            ControlClient(path, tmp_path).status()


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff"])
async def test_a_body_that_is_no_object_is_refused(path: Path, client: ControlClient, body: bytes) -> None:
    head = b"POST /do/server.list HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    status, answer = await _raw(path, head + body)
    assert (status, answer) == (409, {"ok": False, "error": "the parameters must be a JSON object"})


async def test_a_body_that_is_too_large_is_refused(path: Path, client: ControlClient) -> None:
    size = 32 * 1024 * 1024 + 1
    head = b"POST /do/server.list HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    status, answer = await _raw(path, head + b" " * size)
    assert (status, answer["error"]) == (409, "the request is too large")


async def test_a_relay_that_breaks_off_is_a_sentence(path: Path, tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            await reader.readexactly(2)  # the parameters, {}
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        writer.close()

    async with await asyncio.start_unix_server(hang_up, path):
        with pytest.raises(Refused, match="broke off its answer"):
            await asyncio.to_thread(ControlClient(path, tmp_path).status)
        with pytest.raises(Refused, match="broke off its answer"):
            await asyncio.to_thread(lambda: list(ControlClient(path, tmp_path).stream("server.test", {})))


async def test_a_stream_that_ends_without_its_end_is_broken_off(path: Path, tmp_path: Path) -> None:
    """As a fault in the middle of a test leaves it: http.client takes that for the end."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)  # the parameters, {}: who hangs up before them breaks off the question
        line = b'{"item": {"step": "login", "ok": true}}\n'
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(line), line))
        writer.close()

    async with await asyncio.start_unix_server(hang_up, path):
        with pytest.raises(Refused, match="broke off its answer"):
            await asyncio.to_thread(lambda: list(ControlClient(path, tmp_path).stream("server.test", {})))


async def test_the_counters_are_a_running_relays(path: Path, operations: AdminOperations, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"^only a running relay counts"):
        await operations.run("metrics", {})


@each_row("steps", range(0, 60, 2))
async def test_it_ends_while_what_answers_is_made_and_begins(
    steps: int, path: Path, tmp_path: Path, operations: AdminOperations
) -> None:
    control = ControlSocket(path, lambda: CommandServer(operations, tmp_path))
    await control.start()
    _, writer = await asyncio.open_unix_connection(path)
    for _ in range(steps):
        await asyncio.sleep(0.0001 if steps % 4 else 0)  # how far it has come is what differs
    await control.stop()
    writer.close()
    assert not path.exists()
