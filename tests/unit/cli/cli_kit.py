"""The command line in a folder of its own, in this process: what it prints and how it ends."""

import asyncio
import io
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relay.cli.app import run
from relay.cli.local import open_operations
from relay.config.settings import load_settings
from relay.control.transport.server import CommandServer
from relay.control.transport.socket import ControlSocket
from relay.store.db.database import open_database
from relay.store.queue.messages import HoldRow, NewMessage
from relay.store.queue.queue import Queue


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """`relay` with the settings file of a folder. Secrets that are typed in must never be printed."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.settings_file = folder / "relay.toml"
        self.directory_file = self.state_dir / "directory.toml"
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.settings_file.write_text(f'state_dir = "{self.state_dir}"\nhostname = "relay.test"\n')

    def __call__(self, *arguments: str, stdin: str = "") -> Done:
        """Run a command; `stdin` is no terminal."""
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        self._capsys.readouterr()
        code = run(["--config", str(self.settings_file), *arguments])
        out, err = self._capsys.readouterr()
        assert "geheim" not in out + err
        assert "Traceback" not in out + err
        return Done(code, out, err)

    def good(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that must succeed, and return what it printed."""
        done = self(*arguments, stdin=stdin)
        assert (done.code, done.err) == (0, ""), done
        return done.out

    def ask(self, *arguments: str) -> Any:
        """Run a command with --json that must succeed, and return the value."""
        return json.loads(self.good(*arguments, "--json"))

    def store(self, *news: NewMessage, holds: Sequence[HoldRow] = ()) -> None:
        """Put messages and holds into the store, which a relay may have open meanwhile."""

        async def add() -> None:
            database = await open_database(self.state_dir / "relay.db")
            queue = Queue(database, "test")
            await queue.add(*news)
            for hold in holds:
                await queue.put_hold(hold)
            await queue.aclose()
            await database.close()

        asyncio.run(add())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have the operations answered over control.sock meanwhile, by a thread that alone may read the master key."""
        thread = _Answering(self)
        thread.start()
        thread.wait_until_ready()
        try:
            yield
        finally:
            thread.stop()


class _Answering(threading.Thread):
    def __init__(self, command_line: CommandLine) -> None:
        super().__init__(daemon=True)
        self._settings = load_settings(command_line.settings_file, {})
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._answer())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    def wait_until_ready(self) -> None:
        assert self._ready.wait(20)
        assert self._error is None, self._error

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self.join(20)
        assert not self.is_alive()
        assert self._error is None, self._error

    async def _answer(self) -> None:
        async with open_operations(self._settings, "relay.toml") as operations:
            control = ControlSocket(
                self._settings.control_socket, lambda: CommandServer(operations, self._settings.state_dir)
            )
            await control.start()
            self._ready.set()
            await self._ended.wait()
            await control.stop()
