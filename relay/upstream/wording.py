"""What went wrong on the way to a server, in a sentence for people: for the log, and for whoever tests a server."""

import errno
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from relay.upstream.phase import Phase

_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_NO_WAY: Mapping[int | None, str] = MappingProxyType(
    {
        errno.ENETUNREACH: "this machine has no way to its network",
        errno.EHOSTUNREACH: "no machine answers at its address",
        errno.EADDRNOTAVAIL: "this machine has no free port or no address for it",
        errno.EACCES: "this machine does not permit it",
        errno.EPERM: "this machine does not permit it",
        errno.EMFILE: "this process has too many files open",
        errno.ENFILE: "this machine has too many files open",
    }
)


@dataclass(frozen=True, slots=True)
class Peer:
    """A server as its settings name it, and how many seconds it had for the step that failed."""

    host: str
    port: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.host} port {self.port}"


def describe(error: BaseException, phase: Phase, peer: Peer) -> str:
    """Return what an exception of the network means, in one sentence without Python's names where there is one."""
    # The order matters: resolver, TLS and timeout errors are OSErrors too. asyncio aborts a handshake that lasts.
    match error:
        case socket.gaierror():
            return _unresolved(error, peer)
        case ssl.SSLCertVerificationError(verify_message=str(message)):
            return f"the certificate of {peer} is not accepted: {message}"
        case ssl.SSLError():
            return f"TLS with {peer} failed: {_tls_reason(error)}"
        case TimeoutError() | ConnectionAbortedError():
            who = f"the name server about {peer.host}" if phase is Phase.RESOLVE else peer
            return f"no answer from {who} within {peer.seconds:g} s"
        case ConnectionRefusedError():
            return f"connection refused by {peer}"
        case ConnectionError():
            is_reset = isinstance(error, ConnectionResetError) or isinstance(error.__cause__, ConnectionResetError)
            return f"{peer} {'reset' if is_reset else 'closed'} the connection"
        case OSError(filename=str(name)):
            return f"{name}: {error.strerror}"
        case OSError(errno=number) if number in _NO_WAY:
            return f"no connection to {peer}: {_NO_WAY[number]}"
    cause = f": {error.__cause__}" if error.__cause__ else ""
    return f"{type(error).__name__}: {error}{cause}"


def _unresolved(error: socket.gaierror, peer: Peer) -> str:
    if error.errno in _NO_SUCH_NAME:
        return f"the name {peer.host} does not exist"
    if error.errno == socket.EAI_AGAIN:
        return f"no name server answers about {peer.host}"
    return f"the name {peer.host} cannot be looked up: {error.strerror}"


def _tls_reason(error: ssl.SSLError) -> str:
    # OpenSSL's reasons are words already: WRONG_VERSION_NUMBER. What did not come from it has none.
    reason: str | None = getattr(error, "reason", None)
    return reason.replace("_", " ").lower() if reason else str(error.strerror or error)
