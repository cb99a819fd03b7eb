"""Rotates the master key of a state folder, and kills itself (SIGKILL) at a named step. For test_vault_rotation."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from relay.secrets.master_key import KeyFile, MasterKey
from relay.secrets.vault import Vault
from relay.store.db.database import open_database
from relay.store.people.secrets import SecretTable


def step(name: str) -> None:
    if name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingKeyFile(KeyFile):
    def prepare_next(self) -> MasterKey:
        sync = os.fsync

        def dying_sync(descriptor: int) -> None:
            step("next key written, not synced")
            sync(descriptor)
            step("next key synced, not in place")

        os.fsync = dying_sync  # type: ignore[assignment]
        step("before the next key")
        key = super().prepare_next()
        step("next key in place")
        os.fsync = sync
        return key

    def promote(self) -> None:
        step("committed, old key in place")
        super().promote()
        step("new key in place")


class DyingTable(SecretTable):
    async def reseal(self, old_id: str, new_id: str, change: Callable[[str, bytes], bytes]) -> None:
        done = 0

        def dying_change(owner: str, sealed: bytes) -> bytes:
            nonlocal done
            done += 1
            step(f"transaction, at secret {done}")
            return change(owner, sealed)

        await super().reseal(old_id, new_id, dying_change)


async def main() -> None:
    state_dir = Path(sys.argv[1])
    database = await open_database(state_dir / "relay.db")
    vault = await Vault.open(DyingTable(database), DyingKeyFile(state_dir / "master.key"))
    await vault.rotate()
    step("rotated, store open")
    await database.close()


asyncio.run(main())
