"""All operations of a relay by name: the one way to it for commands, pages and API."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from relay.control.accounts import Accounts, accounts_held
from relay.control.applications import Applications
from relay.control.authorizations import Authorizations
from relay.control.bulk import Bulk
from relay.control.doctor import Doctor
from relay.control.history import History
from relay.control.incoming import IncomingPasswords
from relay.control.message_counts import MessageCounts
from relay.control.message_pages import MessagePages
from relay.control.message_records import rfc3339
from relay.control.operation import Operation
from relay.control.overview import Overview
from relay.control.paging import Pages
from relay.control.parts import Parts
from relay.control.passwords import Passwords
from relay.control.probes import Probes
from relay.control.profiles import Profiles
from relay.control.providers import Providers
from relay.control.queue import Waiting, counts
from relay.control.refused import Refused, UnknownOperation
from relay.control.routes import Routes
from relay.control.servers import Servers
from relay.control.tokens import token_records
from relay.control.trial import Trial
from relay.control.users import ServerUsers
from relay.directory.model import ProfileKind
from relay.faults import did_you_mean


class Operations:
    """The operations on the parts of one relay. Results and streamed items are JSON values.

    Each looks at the directory file first, so that what a person saved a moment ago counts.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._operations: dict[str, Operation] = {
            "status": Operation(self._status),
            "metrics": Operation(self._metrics),
            **Servers(parts).operations(),
            **ServerUsers(parts).operations(),
            **Pages(parts).operations(),
            **Overview(parts).operations(),
            **Providers().operations(),
            **Profiles(parts, ProfileKind.CHANNEL).operations(),
            **Profiles(parts, ProfileKind.AGENT).operations(),
            **Bulk(parts, ProfileKind.CHANNEL).operations(),
            **Bulk(parts, ProfileKind.AGENT).operations(),
            **Applications(parts).operations(),
            **Passwords(parts).operations(),
            **IncomingPasswords(parts).operations(),
            **Authorizations(parts, "server").operations(),
            **Authorizations(parts, "channel").operations(),
            **Authorizations(parts, "agent").operations(),
            **Routes(parts).operations(),
            **Probes(parts).operations(),
            **Trial(parts).operations(),
            **Doctor(parts).operations(),
            **Waiting(parts).operations(),
            **Accounts(parts).operations(),
            **History(parts).operations(),
            **MessagePages(parts).operations(),
            **MessageCounts(parts).operations(),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all operations."""
        return tuple(self._operations)

    def is_stream(self, name: str) -> bool:
        """Whether an operation tells what it does while it goes on. Raises UnknownOperation."""
        return self._operation(name).is_stream

    def is_change(self, name: str) -> bool:
        """Whether an operation changes the directory, a secret or the queue. Raises UnknownOperation."""
        return self._operation(name).is_change

    async def run(self, name: str, params: Mapping[str, Any]) -> Any:
        """Return the result of an operation. Raises Refused."""
        operation = self._operation(name)
        await self._parts.directory.refresh()
        return await operation.run(params)

    async def batches(self, name: str, params: Mapping[str, Any]) -> AsyncGenerator[list[dict[str, Any]]]:
        """Yield the items of an operation, as many at once as there are. Raises Refused."""
        operation = self._operation(name)
        await self._parts.directory.refresh()
        async with aclosing(operation.batches(params)) as batches:
            async for batch in batches:
                yield batch

    async def stream(self, name: str, params: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Yield the items of an operation one by one. Raises Refused."""
        async with aclosing(self.batches(name, params)) as batches:
            async for batch in batches:
                for item in batch:
                    yield item

    def _operation(self, name: str) -> Operation:
        if name not in self._operations:
            raise UnknownOperation(f"there is no operation '{name}'{did_you_mean(name, self._operations)}")
        return self._operations[name]

    async def _status(self) -> dict[str, Any]:
        queue = self._parts.queue
        return {
            **self._parts.status(),
            "queue": await counts(queue),
            "oldest": rfc3339(await queue.oldest()),
            "accounts_held": await accounts_held(self._parts),
            "oauth": await token_records(self._parts),
        }

    async def _metrics(self) -> str:
        if self._parts.metrics is None:
            raise Refused("only a running relay counts what it does; start it with: relay serve")
        queue = self._parts.queue
        return self._parts.metrics(await counts(queue), len(await queue.holds()))
