"""Where the service is: $RELAY_SUBMIT, else its submit socket, else its port. No settings file is read."""

import os
import socket
from collections.abc import Iterable, Mapping

from relay.config.endpoint import Endpoint, InheritedSocket, TcpAddress, UnixAddress, parse_endpoint
from relay.config.machine import NO_HOME, SYSTEM_RUNTIME, default_state_dir
from relay.sendmail.failure import NotSent

_SOCKET = "submit.sock"
_PORT = TcpAddress("127.0.0.1", 2525)
# To connect on this machine takes no time; a host elsewhere that is down must not hold up a web page for long.
_CONNECT_SECONDS = 30.0


def places(environ: Mapping[str, str], user: int) -> tuple[Endpoint, ...]:
    """Return where to look, in order: the socket of a relay that the user runs, then the machine's, then the port.

    With $RELAY_SUBMIT (host:port, [v6]:port, unix:/path or just /path) only there. Raises NotSent where that is none
    of them.
    """
    named = environ.get("RELAY_SUBMIT", "")
    if not named:
        return (*_own_socket(environ, user), UnixAddress(SYSTEM_RUNTIME / _SOCKET), _PORT)
    try:
        endpoint = parse_endpoint(f"unix:{named}" if named.startswith("/") else named)
    except ValueError as error:
        raise NotSent(os.EX_CONFIG, f"RELAY_SUBMIT: {error}") from None
    if isinstance(endpoint, InheritedSocket):
        raise NotSent(os.EX_CONFIG, f"RELAY_SUBMIT: {named!r} is no address to connect to")
    return (endpoint,)


def connect(endpoints: Iterable[Endpoint]) -> socket.socket:
    """Return a connection to the first place that takes one. Raises NotSent, which says why each did not."""
    refusals: list[str] = []
    for endpoint in endpoints:
        try:
            return _connect(endpoint)
        except OSError as error:
            refusals.append(f"{endpoint}: {error.strerror or error}")
    where = "; ".join(refusals)
    raise NotSent(os.EX_TEMPFAIL, f"no relay takes mail here ({where}); start one with: relay serve")


def _own_socket(environ: Mapping[str, str], user: int) -> tuple[UnixAddress, ...]:
    # Only HOME: the folders that systemd names are those of the unit that calls us.
    state_dir = default_state_dir({"HOME": environ.get("HOME", "")}, user)
    if not state_dir.is_absolute() or state_dir.is_relative_to(NO_HOME):
        return ()
    return (UnixAddress(state_dir / _SOCKET),)


def _connect(endpoint: Endpoint) -> socket.socket:
    if isinstance(endpoint, TcpAddress):
        return socket.create_connection((endpoint.host, endpoint.port), _CONNECT_SECONDS)
    assert isinstance(endpoint, UnixAddress)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_CONNECT_SECONDS)
        connection.connect(str(endpoint.path))
    except OSError:
        connection.close()
        raise
    return connection
