"""The operations on the relay itself: how it is, its counters, its store, and the nodes that use one store."""

import os
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from relay.config.faults import did_you_mean
from relay.control.audit_log import note
from relay.control.context import ControlContext
from relay.control.entries.accounts import accounts_held, token_states
from relay.control.messages.queue import counts
from relay.control.messages.records import is_open, rfc3339
from relay.control.operation import Access, Operation
from relay.control.refused import NotFound, Refused
from relay.control.results import DamagedMessage, NodeRecord, Status, StoreCheck, StoreCopy, StoreState
from relay.store.cluster.nodes import NodeRow
from relay.store.db.errors import StoreError, StoreUnreachable
from relay.store.queue.messages import Damaged, NoContent
from relay.system.files import create_private

_PAGE = 200
_COPY = "relay.db.rescued"

_SILENT = "silent"


class StatusOperations:
    """`status` and `metrics`."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"status": Operation(self.status), "metrics": Operation(self.metrics)}

    async def status(self) -> Status:
        """Return how the relay is, also where the store is away: that is when people ask."""
        await self._parts.health.look()
        trouble = self._parts.health.trouble
        try:
            status = await self._with_stored(self._parts.status())
        except StoreError as error:
            status, trouble = self._parts.status(), trouble or error
        return replace(status, store=store_state(trouble))

    async def _with_stored(self, status: Status) -> Status:
        queue = self._parts.queue
        return replace(
            status,
            queue=await counts(queue),
            oldest=rfc3339(await queue.oldest()),
            accounts_held=await accounts_held(self._parts),
            oauth=await token_states(self._parts),
        )

    async def metrics(self) -> str:
        """Return the counters as text for Prometheus."""
        if self._parts.metrics is None:
            raise Refused("only a running relay counts what it does; start it with: relay serve")
        queue = self._parts.queue
        if isinstance(self._parts.health.trouble, StoreUnreachable):  # who scrapes waits for no database that is away
            return await self._parts.metrics(None, {}, 0)
        try:
            waiting = await counts(queue)
            oldest, held = await queue.oldest_by_state(waiting.keys()), len(await queue.holds())
        except StoreError:
            return await self._parts.metrics(None, {}, 0)
        return await self._parts.metrics(waiting, oldest, held)


class StoreOperations:
    """`store.state`, `store.check`, and `store.copy` for a store whose files only this process has open any more."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "store.state": Operation(self.state),
            "store.check": Operation(self.check, access=Access.ADMIN),
            "store.copy": Operation(self.copy, access=Access.ADMIN),
        }

    async def state(self) -> StoreState:
        """Return how the store is at this moment."""
        await self._parts.health.look()
        return store_state(self._parts.health.trouble)

    async def check(self) -> StoreCheck:
        """Compare every message that waits with its digest, look through the database, and return the damage."""
        queue, damaged, checked, unchecked, octets = self._parts.queue, list[DamagedMessage](), 0, 0, 0
        structure, after = await queue.inspect(), None
        while page := await queue.list_queue(limit=_PAGE, after=after):
            for message in page:
                try:
                    found = await queue.verify(message)
                except (Damaged, NoContent) as damage:
                    if await self._waits(message.id):  # it may have left meanwhile
                        what = str(damage) if isinstance(damage, Damaged) else "its content is missing"
                        damaged.append(DamagedMessage(id=message.id, reason=what))
                    continue
                checked, unchecked = checked + (found is not None), unchecked + (found is None)
                octets += found or 0
            after = page[-1]
        return StoreCheck(
            ok=not structure and not damaged,
            messages=checked,
            octets=octets,
            unchecked=unchecked,
            damaged=damaged,
            structure=structure,
        )

    async def _waits(self, id_: str) -> bool:
        message = await self._parts.queue.message(id_)
        return message is not None and is_open(message)

    async def copy(self) -> StoreCopy:
        """Write a whole copy of the store to a private file, and return which. Who asked removes it.

        It is in the state folder, or where that is gone too, among temporary files.
        """
        target, reason = None, ""
        for folder in (self._parts.settings.state_dir, Path(tempfile.gettempdir())):
            target = folder / f"{_COPY}.{os.getpid()}"
            try:
                target.unlink(missing_ok=True)
                os.close(create_private(target))
                break
            except OSError as error:
                target, reason = None, f"{folder}: {error.strerror}"
        if target is None:
            raise Refused(f"a copy of the store cannot be written ({reason})")
        try:
            await self._parts.health.copy_to(target)
        except BaseException:
            with suppress(OSError):
                target.unlink()
            raise
        return StoreCopy(str(target))


def store_state(trouble: StoreError | None) -> StoreState:
    """Return how a store is, as `relay status` has it."""
    return StoreState() if trouble is None else StoreState(ok=False, reason=trouble.reason, trouble=str(trouble))


class NodeOperations:
    """What can be asked about nodes, and done with them."""

    def __init__(self, parts: ControlContext) -> None:
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
