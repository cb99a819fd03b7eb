"""Which node this relay is: its name, and an id of its own in state_dir, by which a restart is known as the same node.

Whoever has something under way names the node in its own name: so a restart takes back at once what an earlier run of
the same node left, and nothing of a node on another machine.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from relay.cluster.peers import Peers
from relay.config.faults import Fault, Faults
from relay.config.settings import Settings
from relay.store.cluster.nodes import Node
from relay.store.queue.claims import Living
from relay.system.file_modes import create_private, make_private_folder

_FILE = "node.id"
_OCTETS = 8


def own_node(settings: Settings) -> Node:
    """Return this node; its id is made at the first start. Raises Faults where it cannot be kept."""
    path = settings.state_dir / _FILE
    try:
        make_private_folder(settings.state_dir)
        return Node(name=settings.effective_node, id=_kept_id(path))
    except OSError as error:
        raise Faults([Fault(str(path), "", f"the id of this node cannot be kept: {error.strerror}")]) from error


def keep_out_others(settings: Settings) -> int:
    """Let no other relay use this state_dir for as long as the descriptor is open that is returned; after `own_node`.

    Whoever begins takes all that is named after an earlier run for lost: so that must not be one that goes on. Raises
    Faults where there is one.
    """
    descriptor = os.open(settings.state_dir / _FILE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Faults(
            [Fault(str(settings.state_dir), "", "another relay runs already with this state_dir; stop it first")]
        ) from None
    return descriptor


def owner_of(node: Node, peers: Peers) -> str:
    """Return what names this process in the store, as the owner of what it has there."""
    return f"{node.id}/{peers.owner}"


def living_of(node: Node, peers: Peers, *, is_shared: bool) -> Living:
    """Return whom this process knows to be alive; of other nodes, where the store `is_shared`, it knows nothing."""
    run, place = peers.living
    ours = f"{node.id}/"
    return Living(run=ours + run, place=ours + place, node=ours if is_shared else "")


def _kept_id(path: Path) -> str:
    """Return the id in a file, which is made where it is missing or nothing is in it. Raises OSError."""
    with suppress(FileNotFoundError):
        if kept := path.read_text("ascii", "replace").strip():
            return kept
        path.unlink()  # a machine that failed just when it was made
    fresh = token_hex(_OCTETS)
    with suppress(FileExistsError), os.fdopen(create_private(path), "w") as file:
        file.write(f"{fresh}\n")
        file.flush()
        os.fsync(file.fileno())
    return path.read_text("ascii", "replace").strip()
