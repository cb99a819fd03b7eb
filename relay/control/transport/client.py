"""The commands' side of control.sock: asks a running relay, and knows when there is none.

Standard library only, so that a command over the socket starts quickly.
"""

import json
import socket
from collections.abc import Generator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from relay.control.refused import Refused

# A test of a server may wait 5 minutes for an answer to a command and 10 for the one to the final dot.
_ANSWER_SECONDS = 900
_BROKEN_OFF = "the running relay broke off its answer; see its log"


class NoRelay(Exception):
    """No relay runs behind this socket: there is no file, or nobody listens on it any more."""


class ControlClient:
    """Asks the relay whose control socket is at `path`, if its state_dir is the one that is meant."""

    def __init__(self, path: Path, state_dir: Path, *, seconds: float = _ANSWER_SECONDS) -> None:
        self._path = path
        self._state_dir = state_dir
        self._seconds = seconds

    def status(self) -> dict[str, Any]:
        """Return the status of the running relay. Raises NoRelay, or Refused."""
        status = self._result("GET", "/status", None)
        return dict(status)

    def run(self, name: str, params: Mapping[str, Any]) -> Any:
        """Return the result of an operation. Raises NoRelay, or Refused."""
        return self._result("POST", f"/do/{name}", params)

    def stream(self, name: str, params: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """Yield what an operation says while it goes on. Raises NoRelay, or Refused."""
        connection, answer = self._ask("POST", f"/do/{name}", params)
        try:
            for line in answer:
                message = json.loads(line)
                if "error" in message:
                    raise Refused(message["error"])
                if "end" in message:
                    return
                yield message["item"]
            # http.client takes a connection that is cut off between two lines for the end of the answer.
            raise Refused(_BROKEN_OFF)
        except (OSError, HTTPException, ValueError) as error:
            raise Refused(_BROKEN_OFF) from error
        finally:
            answer.close()
            connection.close()

    def _result(self, method: str, path: str, params: Mapping[str, Any] | None) -> Any:
        connection, answer = self._ask(method, path, params)
        try:
            return json.loads(answer.read())
        except (OSError, HTTPException, ValueError) as error:
            raise Refused(_BROKEN_OFF) from error
        finally:
            answer.close()
            connection.close()

    def _ask(self, method: str, path: str, params: Mapping[str, Any] | None) -> tuple[HTTPConnection, HTTPResponse]:
        connection = _UnixConnection(self._path, self._seconds)
        headers = {"Relay-State-Dir": str(self._state_dir.resolve()), "Connection": "close"}
        body = None if params is None else json.dumps(params).encode()
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise Refused(_error_in(answer))
        except (OSError, HTTPException) as error:
            connection.close()
            raise Refused(f"the running relay did not answer on {self._path}: {error}") from error
        except (NoRelay, Refused):
            connection.close()
            raise
        return connection, answer


class _UnixConnection(HTTPConnection):
    """An HTTP connection over a unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file. Raises NoRelay where nobody listens, Refused where we may not."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout)
        try:
            connection.connect(str(self._path))
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            connection.close()
            raise NoRelay(str(self._path)) from error
        except PermissionError as error:
            connection.close()
            raise Refused(f"only root and the owner of {self._path} may use it; try again with sudo") from error
        except OSError as error:
            connection.close()
            if error.errno is None:  # the path is too long for a socket, so no relay listens there either
                raise NoRelay(str(self._path)) from error
            raise Refused(f"the control socket {self._path} cannot be used: {error}") from error
        self.sock = connection


def _error_in(answer: HTTPResponse) -> str:
    try:
        return str(json.loads(answer.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"the running relay answered with HTTP {answer.status}; see its log"
