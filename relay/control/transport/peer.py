"""Who is at the other end of the control socket: its owner and root may ask, nobody else.

SECURITY: the socket's mode (0600) keeps others out already. The kernel's word about the peer (SO_PEERCRED, unix(7))
holds where a mode was widened by hand, or where a descriptor was passed on.
"""

import os

from relay.system.peer_credentials import peer_uid

__all__ = ["may_ask", "peer_uid"]


def may_ask(uid: int) -> bool:
    """Whether a user may give orders to this process: the one it runs as, and root."""
    return uid in {0, os.geteuid()}
