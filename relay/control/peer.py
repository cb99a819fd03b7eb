"""Who is at the other end of the control socket: its owner and root may ask, nobody else.

SECURITY: the socket's mode (0600) keeps others out already. The kernel's word about the peer (SO_PEERCRED, unix(7))
holds where a mode was widened by hand, or where a descriptor was passed on.
"""

import os
import socket
import struct
from typing import Protocol

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class HasOptions(Protocol):
    """A socket, or what an event loop gives out for one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Return a socket option as bytes."""


def peer_uid(connection: HasOptions) -> int:
    """Return the user id of the process that connected to a unix socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


def may_ask(uid: int) -> bool:
    """Whether a user may give orders to this process: the one it runs as, and root."""
    return uid in {0, os.geteuid()}
