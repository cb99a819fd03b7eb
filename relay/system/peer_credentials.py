"""Who is at the other end of a unix socket: the kernel's word (SO_PEERCRED, unix(7)), and nobody else's."""

import pwd
import socket
import struct
from functools import cache
from typing import Protocol

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class HasOptions(Protocol):
    """A socket, or what an event loop gives out for one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Return a socket option as bytes."""


def peer_uid(connection: HasOptions) -> int:
    """Return the user id of the process that connected to a unix socket. Raises OSError."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


@cache
def user_name(uid: int) -> str:
    """Return what the system calls a user; "" for one that it does not know. Asked once for each user."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
