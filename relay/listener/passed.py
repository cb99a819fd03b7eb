"""Sockets that systemd opened for us: found by their names (fd:NAME) or by the address that they have already.

Where there are several workers, the supervisor passes each its sockets in the same way, by the addresses in the
settings.

systemd keeps its own descriptor of each. So while no relay runs, or one ends and the next begins, clients wait in the
kernel's queue and are not refused; and a port under 1024 needs no privilege of ours.
"""

import errno
import os
import socket
from collections.abc import Mapping, Sequence

from relay.endpoint import Endpoint, InheritedSocket
from relay.listener.sockets import ListenError, address_of
from relay.settings import Listener

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class PassedSockets:
    """The passed sockets that no listener has yet. Raises ListenError for one that nobody can listen on."""

    def __init__(self, descriptors: Mapping[str, Sequence[int]] | None = None) -> None:
        self._by_name: dict[str, list[socket.socket]] = {}
        try:
            for name, numbers in (descriptors or {}).items():
                for number in numbers:
                    self._by_name.setdefault(name, []).append(_checked(name, number))
        except ListenError:
            self.close()
            raise

    def addresses(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return what an fd:NAME that nobody took stands for; of another endpoint itself."""
        if not isinstance(endpoint, InheritedSocket):
            return (str(endpoint),)
        return tuple(
            address_of(sock) for name in (str(endpoint), endpoint.name) for sock in self._by_name.get(name, ())
        )

    def take(self, listener: Listener) -> tuple[socket.socket, ...]:
        """Return the sockets for a listener, which has them from now on; none where it has to open its address itself.

        Raises ListenError where it names a socket that was not passed, or one that does not fit its other keys.
        """
        endpoint = listener.endpoint
        found = tuple(self._by_name.get(str(endpoint), ()))
        if not found:
            found = self._named(endpoint) if isinstance(endpoint, InheritedSocket) else self._bound_to(endpoint)
        for sock in found:
            _check_fit(listener, sock)
        for sockets in self._by_name.values():
            sockets[:] = [sock for sock in sockets if sock not in found]
        return found

    def left(self) -> tuple[str, ...]:
        """Return a sentence about each socket that no listener took: whoever connects there waits in vain."""
        return tuple(
            f"systemd passed a socket for {address_of(sock)} that no listener uses; "
            f'give one the address "fd:{name}", or disable the socket unit'
            for name, sockets in self._by_name.items()
            for sock in sockets
        )

    def close(self) -> None:
        """Close what nobody took; systemd keeps its own descriptors."""
        for sockets in self._by_name.values():
            for sock in sockets:
                sock.close()
        self._by_name.clear()

    def _bound_to(self, endpoint: Endpoint) -> tuple[socket.socket, ...]:
        every = (sock for sockets in self._by_name.values() for sock in sockets)
        return tuple(sock for sock in every if address_of(sock) == str(endpoint))

    def _named(self, endpoint: InheritedSocket) -> tuple[socket.socket, ...]:
        if found := self._by_name.get(endpoint.name):
            return tuple(found)
        mend = f"enable the socket unit with FileDescriptorName={endpoint.name}"
        names = sorted(name for name, sockets in self._by_name.items() if sockets)
        if names:
            only = ", ".join(names)
            raise ListenError(
                f"{endpoint}: systemd passed no socket of this name, only {only}; {mend}, or name another"
            )
        raise ListenError(
            f"{endpoint}: systemd passed no socket; {mend} and let systemd start relay, or write host:port"
        )


def _checked(name: str, number: int) -> socket.socket:
    """Return a passed descriptor as the listening stream socket that it must be."""
    where = f"fd:{name}: what systemd passed"
    try:
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
    except OSError as error:
        what = "is no socket" if error.errno == errno.ENOTSOCK else f"cannot be used: {error.strerror}"
        raise ListenError(f"{where} {what}; its unit must have ListenStream=") from None
    is_stream = sock.family in _FAMILIES and sock.type == socket.SOCK_STREAM
    if not is_stream or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ListenError(f"{where} is no listening socket; its unit must have ListenStream= and Accept=no")
    return sock


def _check_fit(listener: Listener, sock: socket.socket) -> None:
    is_unix = sock.family == socket.AF_UNIX
    if listener.users and not is_unix:
        raise ListenError(
            f"{listener.endpoint}: only a unix socket knows its users, and this one is {address_of(sock)}; "
            f"remove the key users of listener '{listener.name}', or let its unit listen at a path"
        )
    if listener.proxy_protocol and is_unix:
        raise ListenError(
            f"{listener.endpoint}: no proxy comes through the unix socket {address_of(sock)}; "
            f"remove the key proxy_protocol of listener '{listener.name}'"
        )
