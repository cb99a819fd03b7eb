"""The operations on the store as a whole: how it is, and a copy of it that only a running relay can make."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from relay.control.context import Parts
from relay.control.messages.records import is_open
from relay.control.operation import Access, Operation
from relay.control.refused import Refused
from relay.control.results import DamagedMessage, StoreCheck, StoreCopy, StoreState
from relay.store.db.errors import StoreError
from relay.store.queue.messages import Damaged, NoContent
from relay.system.file_modes import create_private

_PAGE = 200
_COPY = "relay.db.rescued"


class StoreOperations:
    """`store.state`, `store.check`, and `store.copy` for a store whose files only this process has open any more."""

    def __init__(self, parts: Parts) -> None:
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
                    found = await queue.look_into(message)
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
