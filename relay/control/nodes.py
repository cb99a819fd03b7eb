"""The operations on nodes: the relays that use one store."""

from dataclasses import replace

from relay.config.faults import did_you_mean
from relay.control.audit_details import note
from relay.control.context import Parts
from relay.control.messages.records import rfc3339
from relay.control.operation import Operation
from relay.control.refused import NotFound
from relay.control.results import NodeRecord
from relay.store.cluster.nodes import NodeRow

_SILENT = "silent"


class NodeOperations:
    """What can be asked about nodes, and done with them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "node.list": Operation(self.list_),
            "node.drain": Operation(self.drain, is_change=True),
        }

    async def list_(self) -> list[NodeRecord]:
        """Return all nodes, by name. One that has said nothing for too long is in the state "silent"."""
        return [_record(row) for row in await self._parts.nodes.rows()]

    async def drain(self, *, name: str, undo: bool = False) -> NodeRecord:
        """Let a node take no more clients and no mail from the queue, or do so again; return its record."""
        before = {row.node.name: row for row in await self._parts.nodes.rows()}
        if name not in before or not await self._parts.nodes.drain(name, is_wanted=not undo):
            raise NotFound(f"there is no node '{name}'{did_you_mean(name, before) or '; see: relay node list'}")
        note("drain", before[name].drain, not undo)
        return replace(_record(before[name]), drain=not undo)


def _record(row: NodeRow) -> NodeRecord:
    return NodeRecord(
        name=row.node.name,
        state=str(row.doing.state) if row.is_live else _SILENT,
        drain=row.drain,
        leads=row.leads,
        version=row.version,
        since=rfc3339(row.since),
        seen=rfc3339(row.seen),
        workers=row.doing.workers,
        clients=row.doing.clients,
        messages=row.doing.messages,
    )
