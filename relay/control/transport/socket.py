"""control.sock: the unix socket on which the commands reach a running relay (`relay.control.transport.server`).

Most relays are asked something now and then, and mail does not wait for it: what answers takes a third of a second to
load and several MB. So it is made when somebody first comes, in a thread; who comes meanwhile waits.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from relay import log
from relay.config.endpoint import LONGEST_SOCKET_PATH
from relay.system.process import in_short_turns, loading

if TYPE_CHECKING:
    from relay.control.transport.server import CommandServer

P = ParamSpec("P")
T = TypeVar("T")

_PROBE_SECONDS = 2


async def somebody(listening: socket.socket) -> None:
    """Wait until somebody connects. The connection is left to the server."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_reader(listening, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(listening)


async def made(make: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Make an application in a thread, while mail flows."""
    with loading():  # a look at all that is there would hold up a message afterwards
        return await in_short_turns(make, *args, **named)


class ControlSocketError(Exception):
    """The control socket cannot be opened. The message says why and what to do."""


class ControlSocket:
    """The socket file of a running relay. `make_server` is called in a thread, when somebody first connects."""

    def __init__(self, path: Path, make_server: Callable[[], "CommandServer"]) -> None:
        self.path = path
        self._make_server = make_server
        self._inode = 0
        self._server: CommandServer | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. A socket file that nobody answers on is replaced. Raises ControlSocketError."""
        listening = _bind(self.path)
        self._inode = self.path.stat().st_ino
        self._task = asyncio.create_task(self._open(listening), name="control.sock")
        await asyncio.sleep(0)  # from its first step on it closes the socket, however it ends

    async def stop(self) -> None:
        """Answer what was asked, for at most a second, and remove the socket file."""
        if self._task is not None:
            if self._server is None:  # else it begins just now, and has the socket
                self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._server is not None:
            await self._server.stop()
        with suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()

    async def _open(self, listening: socket.socket) -> None:
        """Serve as soon as somebody asks."""
        try:
            await somebody(listening)
            server = await made(self._make_server)
            self._server = server
            await server.start(listening)
        except Exception:  # whatever it is, mail goes on
            listening.close()
            log.broken("no command is answered by a fault of ours; please report it", exc_info=True)
        except BaseException:
            listening.close()
            raise


def _bind(path: Path) -> socket.socket:
    """Return a listening socket at `path` that has mode 0600 from its first moment."""
    if path.is_socket():
        if _is_answered(path):
            raise ControlSocketError(f"another relay runs already and answers on {path}; stop it first")
        path.unlink()
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        longest = f"a socket's path has at most {LONGEST_SOCKET_PATH} octets"
        raise ControlSocketError(f"the control socket {path} cannot be opened: {longest}; set a shorter runtime_dir")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the new file the mode of the socket's own inode, so there is no moment with a wider one.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(64)
    except OSError as error:
        listening.close()
        raise ControlSocketError(f"the control socket {path} cannot be opened: {error.strerror or error}") from error
    listening.setblocking(False)
    return listening


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError as error:
            raise ControlSocketError(f"the socket {path} cannot be tried: {error.strerror or error}") from error
        return True
