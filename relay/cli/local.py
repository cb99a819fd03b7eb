"""The operations where no relay runs: directory file, store and vault opened here, for as long as one command takes."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from relay import log
from relay.config.faults import Faults
from relay.config.settings import Settings
from relay.control.actor import commanding
from relay.control.audit_log import AuditLog
from relay.control.context import ControlContext, People
from relay.control.json_values import json_text
from relay.control.messages.queue_actions import StoreQueueActions
from relay.control.operation import refusals
from relay.control.operations import Operations
from relay.control.results import NOT_RUNNING
from relay.delivery.holds import Accounts
from relay.delivery.outcome import Schedule
from relay.directory.live import LiveDirectory
from relay.secrets.binding import bind_unbound
from relay.secrets.master_key import key_source
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.renewal_lease import RenewalLeases
from relay.secrets.resolver import SecretResolver
from relay.secrets.vault import Vault
from relay.store.cluster.identity import new_run
from relay.store.cluster.leases import LeaseTable
from relay.store.cluster.nodes import NodeTable
from relay.store.db.database import Database, open_store
from relay.store.db.health import StoreHealth
from relay.store.people.audit import AuditTable
from relay.store.people.directory import DirectoryTable, storage_of
from relay.store.people.secrets import SecretTable
from relay.store.queue.queue import Queue
from relay.system.files import make_private_folder

_MENDING = frozenset({"directory.import", "directory.export"})


def run_here(settings: Settings, settings_file: str, name: str, params: Mapping[str, Any]) -> Any:
    """Return the result of an operation as a running relay would answer it: as JSON. Raises Refused."""

    async def run() -> Any:
        is_mending = name in _MENDING
        async with open_operations(settings, settings_file, may_have_faults=is_mending) as operations:
            return json.loads(json_text(await operations.run(name, params, commanding())))

    return _quietly(run)


def stream_here(
    settings: Settings, settings_file: str, name: str, params: Mapping[str, Any], tell: Callable[[Any], None]
) -> None:
    """Pass on what an operation says while it goes on, as JSON. Raises Refused."""

    async def run() -> None:
        async with open_operations(settings, settings_file) as operations:
            async for item in operations.stream(name, params, commanding()):
                tell(json.loads(json_text(item)))

    _quietly(run)


@asynccontextmanager
async def open_operations(
    settings: Settings, settings_file: str, *, may_have_faults: bool = False
) -> AsyncIterator[Operations]:
    """Give the operations on the files of these settings, and close them at the end. Raises Refused.

    `may_have_faults`: a directory in the database is mended by operations alone, however bad it is.
    """
    with refusals():
        make_private_folder(settings.state_dir)
        async with AsyncExitStack() as closing:
            if not settings.is_directory_stored:  # a bad file makes no store
                directory = await LiveDirectory.open(settings, settings_file, is_for_commands=True)
            database = await open_store(settings, os.environ)
            closing.push_async_callback(database.close)
            if settings.is_directory_stored:
                storage = storage_of(settings, database)
                directory = LiveDirectory(settings, settings_file, storage=storage, is_for_commands=True)
                await directory.begin()
                if directory.faults and not may_have_faults:
                    raise Faults(directory.faults)
            source = key_source(settings.secrets.master_key, settings.state_dir, os.environ)
            vault = await Vault.open(SecretTable(database), source)
            await bind_unbound(vault, directory.routing().directory)
            tokens = Tokens(vault, leases=_guard(database))
            secrets = SecretResolver(vault, os.environ, settings.state_dir, tokens=tokens)
            closing.push_async_callback(secrets.tokens.aclose)
            queue = Queue(database, "command")  # it takes no message: nothing is ever under way here
            closing.push_async_callback(queue.aclose)
            audit = AuditTable(database)
            audit_log = AuditLog(audit)
            closing.push_async_callback(audit_log.aclose)
            accounts = Accounts(Schedule.of(settings.delivery), await queue.holds())
            parts = ControlContext(
                settings=settings,
                directory=directory,
                entries=DirectoryTable(database),
                vault=vault,
                secrets=secrets,
                queue=queue,
                queue_actions=StoreQueueActions(queue, directory.routing, accounts),
                people=People.of(database),
                audit_table=audit,
                audit_log=audit_log,
                nodes=NodeTable(database),
                status=lambda: NOT_RUNNING,
                health=StoreHealth(database),
            )
            yield Operations(parts)


def _guard(database: Database) -> RenewalLeases | None:
    """Return what keeps out others who renew tokens: though no relay runs here, one at the same database may."""
    if not database.is_shared:
        return None
    from relay.cluster.token_renewal import ByLease

    return ByLease(LeaseTable(database, new_run()))


def _quietly(run: Callable[[], Any]) -> Any:
    """Run with a log of errors only: what a command did, it says itself."""
    log.configure("auto", "error", sys.stderr)
    return asyncio.run(run())
