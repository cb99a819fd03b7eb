"""Who this process is among all that use the store: a process of a start of a node.

A node has a name, and an id of its own in state_dir, by which a restart is known as the same node. Whoever has
something under way names the node in its own name: so a restart takes back at once what an earlier run of the same node
left, and nothing of a node on another machine.
"""

import fcntl
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from relay.config.faults import Fault, Faults
from relay.config.settings import Settings
from relay.store.cluster.nodes import Node
from relay.store.queue.claims import Living
from relay.system.files import create_private, make_private_folder

_FILE = "node.id"
_OCTETS = 8


def new_run() -> str:
    """Return a name for a start of the relay that no other start has or had."""
    return f"{socket.gethostname()}:{os.getpid()}:{time.time():.6f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place of one process among those of its relay: `index`, from 0, out of `total`.

    `run` names this start of the relay, and `life` counts the processes that had this index in it.
    """

    index: int = 0
    total: int = 1
    run: str = field(default_factory=new_run)
    life: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process does what only one of a relay may do."""
        return self.index == 0

    @property
    def has_others(self) -> bool:
        """Whether the relay has other processes."""
        return self.total > 1

    @property
    def is_replacement(self) -> bool:
        """Whether this process takes the place of one that has ended."""
        return self.life > 1


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


def owner_of(node: Node, place: Place) -> str:
    """Return what names this process in the store, as the owner of what it has there."""
    return f"{node.id}/{place.run}/{place.index}/{place.life}"


def living_of(node: Node, place: Place, *, is_shared: bool) -> Living:
    """Return whom this process knows to be alive; of other nodes, where the store `is_shared`, it knows nothing."""
    ours = f"{node.id}/"
    run = f"{ours}{place.run}/"
    return Living(run=run, place=f"{run}{place.index}/", node=ours if is_shared else "")


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
