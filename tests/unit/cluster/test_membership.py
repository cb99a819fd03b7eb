"""What this node makes of the others that are listed."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import pytest

from relay.cluster.membership import Membership
from relay.store.cluster.nodes import Doing, Node, NodeRow, NodeTable

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OURS, OTHER = Node(name="one", id="1111"), Node(name="two", id="2222")


@dataclass
class Listed:
    """A table of nodes that says this."""

    found: tuple[NodeRow, ...]

    async def enter(self, node: Node, version: str, doing: Doing) -> None:
        """Nothing."""

    async def rows(self) -> tuple[NodeRow, ...]:
        return self.found


def row(node: Node, *, is_live: bool = True, may_hold: bool = True, workers: int = 2) -> NodeRow:
    return NodeRow(
        node=node,
        version="1.0",
        since=NOW,
        seen=NOW,
        silent_seconds=0.0,
        is_live=is_live,
        may_hold=may_hold,
        doing=Doing(workers=workers),
        drain=False,
        leads=False,
    )


@pytest.mark.parametrize(
    ("others", "processes", "is_alone"),
    [
        ((), 1, True),
        ((row(OTHER),), 3, False),
        # Stopped a moment ago: it hands over nothing now, and its connections are open at providers.
        ((row(OTHER, is_live=False),), 1, False),
        ((row(OTHER, is_live=False, may_hold=False),), 1, True),
    ],
)
async def test_who_else_may_have_something(others: tuple[NodeRow, ...], processes: int, is_alone: bool) -> None:
    table = cast("NodeTable", Listed((row(OURS), *others)))
    membership = Membership(table=table, node=OURS, is_first=True, say_seconds=None, doing=Doing)
    await membership.enter()
    assert membership.processes == processes
    assert membership.is_alone is is_alone
