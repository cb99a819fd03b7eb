"""All operations of a relay by name: the one way to it for commands, pages and API."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from relay import log
from relay.config.faults import did_you_mean
from relay.control.actor import Actor, Role
from relay.control.audit_log import OperationChanges
from relay.control.context import ControlContext
from relay.control.entries.accounts import Accounts
from relay.control.entries.authorizations import Authorizations
from relay.control.entries.bulk import Bulk
from relay.control.entries.editing import Entries
from relay.control.entries.imports import Moving
from relay.control.entries.lists import Pages
from relay.control.entries.machine_keys import check_machine_keys
from relay.control.entries.passwords import Passwords
from relay.control.entries.providers import Providers
from relay.control.entries.routes import Routes
from relay.control.entries.servers import Servers
from relay.control.messages.follow import FollowOperation
from relay.control.messages.history import HistoryOperations, MessageCounts, MessagePages
from relay.control.messages.queue import Preview, QueueOperations
from relay.control.notifications import AlertOperations, WebhookOperations
from relay.control.operation import Operation
from relay.control.overview import Overview
from relay.control.people.administrators import AdministratorOperations, ApiTokenOperations, InvitationOperations
from relay.control.people.audits import AuditOperations
from relay.control.refused import Forbidden, UnknownOperation
from relay.control.status import NodeOperations, StatusOperations, StoreOperations
from relay.control.tests.connection_test import ConnectionTests
from relay.control.tests.doctor import DoctorOperation
from relay.control.tests.form_tests import ProfileFormTest, ServerFormTest
from relay.control.tests.password_trials import PasswordTrials
from relay.control.transfers import Transfers
from relay.directory.kinds import AGENT, APPLICATION, CHANNEL, SCRIPT, SERVER


class Operations:
    """The operations on the parts of one relay. Results and streamed items are dataclasses (`relay.control.results`).

    Those of entries are JSON values.

    Each looks at the directory first, so that what a person saved a moment ago counts.
    """

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts
        parts.directory.on_edit = parts.audit_log.edited
        self._following = FollowOperation(parts)
        self._operations: dict[str, Operation] = {
            **StatusOperations(parts).operations(),
            **StoreOperations(parts).operations(),
            **Servers(parts).operations(),
            **Pages(parts).operations(),
            **Overview(parts).operations(),
            **Providers().operations(),
            **Entries(parts, CHANNEL).operations(),
            **Entries(parts, AGENT).operations(),
            **Bulk(parts, CHANNEL).operations(),
            **Bulk(parts, AGENT).operations(),
            **PasswordTrials(parts, CHANNEL).operations(),
            **PasswordTrials(parts, AGENT).operations(),
            **Moving(parts).operations(),
            **Transfers(parts).operations(),
            **Entries(parts, APPLICATION).operations(),
            **Entries(parts, SCRIPT).operations(),
            **Passwords(parts).operations(),
            **Authorizations(parts, SERVER).operations(),
            **Authorizations(parts, CHANNEL).operations(),
            **Authorizations(parts, AGENT).operations(),
            **Routes(parts).operations(),
            **ConnectionTests(parts).operations(),
            **ServerFormTest(parts).operations(),
            **ProfileFormTest(parts, CHANNEL).operations(),
            **ProfileFormTest(parts, AGENT).operations(),
            **DoctorOperation(parts).operations(),
            **QueueOperations(parts).operations(),
            **Preview(parts).operations(),
            **Accounts(parts).operations(),
            **HistoryOperations(parts).operations(),
            **self._following.operations(),
            **AdministratorOperations(parts).operations(),
            **ApiTokenOperations(parts).operations(),
            **InvitationOperations(parts).operations(),
            **AuditOperations(parts).operations(),
            **MessagePages(parts).operations(),
            **MessageCounts(parts).operations(),
            **NodeOperations(parts).operations(),
            **WebhookOperations(parts).operations(),
            **AlertOperations(parts).operations(),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all operations."""
        return tuple(self._operations)

    def end(self) -> None:
        """Let operations end that go on for ever."""
        self._following.end()

    def is_stream(self, name: str) -> bool:
        """Whether an operation tells what it does while it goes on. Raises UnknownOperation."""
        return self._operation(name).is_stream

    def is_change(self, name: str) -> bool:
        """Whether an operation changes the directory, a secret or the queue. Raises UnknownOperation."""
        return self._operation(name).is_change

    def allows(self, name: str, params: Mapping[str, Any], actor: Actor) -> bool:
        """Whether somebody may run an operation with these parameters. Raises UnknownOperation."""
        return self._operation(name).allows(actor, params)

    async def run(self, name: str, params: Mapping[str, Any], actor: Actor) -> Any:
        """Return the result of an operation. Raises Refused."""
        operation = self._allowed(name, params, actor)
        await self._parts.directory.refresh()
        changes = OperationChanges()
        result: Any = None
        is_done = False
        try:
            with changes.open():
                result = await operation.run(params)
            is_done = True
        finally:
            # What was changed before it failed is told too.
            await self._told(actor, name, params, result, changes, is_change=is_done and operation.is_change)
        return result

    async def batches(self, name: str, params: Mapping[str, Any], actor: Actor) -> AsyncGenerator[list[Any]]:
        """Yield the items of an operation, as many at once as there are. Raises Refused."""
        operation = self._allowed(name, params, actor)
        await self._parts.directory.refresh()
        changes = OperationChanges()
        try:
            async with aclosing(operation.batches(params)) as batches:
                while True:
                    with changes.open():  # for each step anew: between two of them the task is the caller's
                        batch = await anext(batches, None)
                    if batch is None:
                        break
                    yield batch
        finally:
            await self._told(actor, name, params, None, changes, is_change=False)

    async def stream(self, name: str, params: Mapping[str, Any], actor: Actor) -> AsyncGenerator[Any]:
        """Yield the items of an operation one by one. Raises Refused."""
        async with aclosing(self.batches(name, params, actor)) as batches:
            async for batch in batches:
                for item in batch:
                    yield item

    def _allowed(self, name: str, params: Mapping[str, Any], actor: Actor) -> Operation:
        operation = self._operation(name)
        if not operation.allows(actor, params):
            log.refused(what=name, who=actor.name, role=str(actor.role), way=str(actor.way))
            raise Forbidden(_forbidden(actor))
        check_machine_keys(actor, params)
        return operation

    async def _told(
        self,
        actor: Actor,
        name: str,
        params: Mapping[str, Any],
        result: Any,
        changes: OperationChanges,
        *,
        is_change: bool,
    ) -> None:
        if not is_change and not changes:
            return
        what = what_of(params, result)
        log.changed(operation=name, **{self._operation(name).about: what or None}, who=actor.name, way=str(actor.way))
        await self._parts.audit_log.record(actor, name, what, changes, is_change=is_change)

    def _operation(self, name: str) -> Operation:
        if name not in self._operations:
            raise UnknownOperation(f"there is no operation '{name}'{did_you_mean(name, self._operations)}")
        return self._operations[name]


def what_of(params: Mapping[str, Any], result: Any) -> str:
    """Return what an operation was about: the whole id that it found, or the name, account or ids that were given.

    SECURITY: no other parameter is looked at, for it may be a password.
    """
    if isinstance(id_ := getattr(result, "id", None), str):
        return id_
    for key in ("name", "account", "id", "profile"):
        if isinstance(params.get(key), str):
            return str(params[key])
    ids = params.get("ids")
    return ", ".join(map(str, ids)) if isinstance(ids, list) else ""


def _forbidden(actor: Actor) -> str:
    if actor.role is Role.AGENT:
        return "you may do this with your own profile alone; ask an administrator"
    return "a viewer may look at everything and change nothing; ask an administrator"
