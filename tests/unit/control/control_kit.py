"""The operations of a relay in a folder of its own, on real parts: directory file, store, vault."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from relay.config.settings import Settings, load_settings
from relay.control.actor import Actor, Role, Way
from relay.control.audit_log import AuditLog
from relay.control.context import ControlContext, People
from relay.control.json_values import json_text
from relay.control.messages.queue_actions import StoreQueueActions
from relay.control.operations import Operations
from relay.control.results import NOT_RUNNING
from relay.delivery.holds import Accounts
from relay.delivery.outcome import Schedule
from relay.directory.live import LiveDirectory
from relay.secrets.master_key import key_source
from relay.secrets.resolver import SecretResolver
from relay.secrets.vault import Vault
from relay.store.cluster.nodes import NodeTable
from relay.store.db.database import open_store
from relay.store.db.health import StoreHealth
from relay.store.people.audit import AuditTable
from relay.store.people.directory import DirectoryTable
from relay.store.people.secrets import SecretTable
from relay.store.queue.queue import Queue

SERVERS = [
    {
        "key": "h:587",
        "values": {"host": "smtp.new.example", "username": "mailer@new.example"},
        "place": "main.cf:1",
        "password": "geheim-1",
    },
    {"key": "i:465", "values": {"host": "smtp.new.example", "security": "tls"}, "place": "hosts:2", "password": ""},
]
PROFILES = [
    {"server": "h:587", "values": {"address": "desk@new.example"}, "place": "generic:1", "password": ""},
    {
        "server": "i:465",
        "values": {"address": "support@new.example", "override": True, "username": "s"},
        "place": "hosts:2",
        "password": "geheim-2",
    },
]
PARAMS: dict[str, Any] = {"name": "/etc/postfix", "servers": SERVERS, "profiles": PROFILES, "default": "h:587"}
TWO_SERVERS: Mapping[str, Any] = {
    "default_server": "acmejets",
    "servers": {
        "acmejets": {"host": "smtp.acmejets.example", "username": "mailer@acmejets.example"},
        "other": {"host": "smtp.other.example", "username": "mailer@other.example", "security": "tls"},
    },
    "channels": {
        "support": {"address": "support@acmejets.example", "aliases": ["help@acmejets.example"]},
        "sales": {"address": "sales@acmejets.example", "server": "other", "override": True},
    },
    "agents": {"jane": {"address": "jane@acmejets.example", "group": "flights", "role": "Lead", "override": True}},
}
ADMINISTRATOR = Actor(name="root", role=Role.ADMINISTRATOR, way=Way.COMMAND)


class AdminOperations(Operations):
    """The operations as an administrator asks for them, unless a test says who asks; their results as JSON has them."""

    async def run(self, name: str, params: Mapping[str, Any], actor: Actor = ADMINISTRATOR) -> Any:
        return json.loads(json_text(await super().run(name, params, actor)))

    async def batches(
        self, name: str, params: Mapping[str, Any], actor: Actor = ADMINISTRATOR
    ) -> AsyncGenerator[list[dict[str, Any]]]:
        async with aclosing(super().batches(name, params, actor)) as batches:
            async for batch in batches:
                yield json.loads(json_text(batch))

    def stream(
        self, name: str, params: Mapping[str, Any], actor: Actor = ADMINISTRATOR
    ) -> AsyncGenerator[dict[str, Any]]:
        return super().stream(name, params, actor)


@asynccontextmanager
async def operations_in(folder: Path, directory: Mapping[str, Any] = TWO_SERVERS) -> AsyncIterator[AdminOperations]:
    """Give the operations on a folder whose directory.toml says this."""
    async with parts_in(folder, directory) as parts:
        yield AdminOperations(parts)


@asynccontextmanager
async def parts_in(folder: Path, directory: Mapping[str, Any] = TWO_SERVERS) -> AsyncIterator[ControlContext]:
    """Give the parts of a relay on a folder whose directory.toml says this."""
    settings = settings_in(folder)
    settings.directory_path.write_bytes(tomli_w.dumps(directory).encode())
    database = await open_store(settings, {})
    vault = await Vault.open(SecretTable(database), key_source("file:master.key", settings.state_dir, {}))
    live = await LiveDirectory.open(settings, "relay.toml")
    queue = Queue(database, "test")
    audit = AuditTable(database)
    audit_log = AuditLog(audit)
    parts = ControlContext(
        settings=settings,
        directory=live,
        entries=DirectoryTable(database),
        vault=vault,
        secrets=SecretResolver(vault, {"MAIL_PASSWORD": "from outside"}, settings.state_dir),
        queue=queue,
        queue_actions=await _queue_actions(settings, queue, live),
        people=People.of(database),
        audit_table=audit,
        audit_log=audit_log,
        nodes=NodeTable(database),
        status=lambda: replace(NOT_RUNNING, running=True),
        health=StoreHealth(database),
    )
    try:
        yield parts
    finally:
        await audit_log.aclose()
        await queue.aclose()
        await database.close()


async def with_holds_read(parts: ControlContext) -> ControlContext:
    """Return the parts with actions on the queue that have read the holds of the store anew."""
    return replace(parts, queue_actions=await _queue_actions(parts.settings, parts.queue, parts.directory))


async def _queue_actions(settings: Settings, queue: Queue, directory: LiveDirectory) -> StoreQueueActions:
    accounts = Accounts(Schedule.of(settings.delivery), await queue.holds())
    return StoreQueueActions(queue, directory.routing, accounts)


def settings_in(folder: Path) -> Settings:
    """Settings whose state is in a private folder below this one."""
    state = folder / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    file = folder / "relay.toml"
    file.write_text(f'state_dir = "{state}"\nhostname = "relay.test"\n')
    return load_settings(file, {})
