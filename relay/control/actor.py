"""Who asks for an operation: by which name, in which role, and by which way."""

import os
from dataclasses import dataclass
from enum import StrEnum

from relay.system.peer_credentials import user_name


class Role(StrEnum):
    """What somebody may do: everything; look at everything; or what concerns the own profile."""

    ADMINISTRATOR = "administrator"
    VIEWER = "viewer"
    AGENT = "agent"


class Way(StrEnum):
    """How an order came: from a page, over the API, by a command, or by an editor that wrote directory.toml."""

    PAGE = "page"
    API = "api"
    COMMAND = "command"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody who asks. `peer` is the network address that the order came from; "" on this machine."""

    name: str
    role: Role
    way: Way
    peer: str = ""


def commanding(uid: int | None = None) -> Actor:
    """Return the system user who gives a command, by default the one that this process runs as."""
    uid = os.geteuid() if uid is None else uid
    return Actor(name=user_name(uid) or f"uid {uid}", role=Role.ADMINISTRATOR, way=Way.COMMAND)
