"""The operations where no relay runs: directory file, store and vault opened here, for as long as one command takes."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from relay import log
from relay.control.actor import commanding
from relay.control.not_running import NOT_RUNNING
from relay.control.operation import refusals
from relay.control.operations import Operations
from relay.control.parts import Parts, People
from relay.control.queue_desk import StoreQueueDesk
from relay.control.trail import Trail
from relay.delivery.accounts import Accounts
from relay.delivery.schedule import Schedule
from relay.directory.live import LiveDirectory
from relay.private import make_private_folder
from relay.secrets.keeper import SecretKeeper
from relay.secrets.key_source import key_source
from relay.secrets.vault import Vault
from relay.settings import Settings
from relay.store.audit import AuditTable
from relay.store.nodes import NodeTable
from relay.store.opening import open_store
from relay.store.queue import Queue
from relay.store.secrets import SecretTable


def run_here(settings: Settings, settings_file: str, name: str, params: Mapping[str, Any]) -> Any:
    """Return the result of an operation. Raises Refused."""

    async def run() -> Any:
        async with open_operations(settings, settings_file) as operations:
            return await operations.run(name, params, commanding())

    return _quietly(run)


def stream_here(
    settings: Settings, settings_file: str, name: str, params: Mapping[str, Any], tell: Callable[[dict[str, Any]], None]
) -> None:
    """Pass on what an operation says while it goes on. Raises Refused."""

    async def run() -> None:
        async with open_operations(settings, settings_file) as operations:
            async for item in operations.stream(name, params, commanding()):
                tell(item)

    _quietly(run)


@asynccontextmanager
async def open_operations(settings: Settings, settings_file: str) -> AsyncIterator[Operations]:
    """Give the operations on the files of these settings, and close them at the end. Raises Refused."""
    with refusals():
        make_private_folder(settings.state_dir)
        directory = await LiveDirectory.open(settings, settings_file)
        async with AsyncExitStack() as closing:
            database = await open_store(settings, os.environ)
            closing.push_async_callback(database.close)
            source = key_source(settings.secrets.master_key, settings.state_dir, os.environ)
            vault = await Vault.open(SecretTable(database), source)
            secrets = SecretKeeper(vault, os.environ, settings.state_dir)
            closing.push_async_callback(secrets.tokens.aclose)
            queue = Queue(database, "command")  # it takes no message: nothing is ever under way here
            closing.push_async_callback(queue.aclose)
            audit = AuditTable(database)
            trail = Trail(audit)
            closing.push_async_callback(trail.aclose)
            accounts = Accounts(Schedule.of(settings.delivery), await queue.holds())
            parts = Parts(
                settings=settings,
                directory=directory,
                vault=vault,
                secrets=secrets,
                queue=queue,
                desk=StoreQueueDesk(queue, directory.routing, accounts),
                people=People.of(database),
                audit=audit,
                trail=trail,
                nodes=NodeTable(database),
                status=lambda: dict(NOT_RUNNING),
            )
            yield Operations(parts)


def _quietly(run: Callable[[], Any]) -> Any:
    """Run with a log of errors only: what a command did, it says itself."""
    log.configure("auto", "error", sys.stderr)
    return asyncio.run(run())
