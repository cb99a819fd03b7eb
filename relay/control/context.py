"""What the operations work with, and how they find what a person named in the directory in effect.

`service` gives the running relay's parts, `cli` its own where none runs.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from relay.config.schema import no_such
from relay.config.settings import Settings
from relay.control.audit_log import AuditLog
from relay.control.refused import NotFound, Refused
from relay.control.results import OpenAccount, Status, TroubledAccount, UnreachedServer
from relay.control.tests.last_tests import LastTests
from relay.directory.kinds import KINDS, Entry, EntryKind
from relay.directory.live import LiveDirectory
from relay.mail.address import Address, AddressError
from relay.secrets.resolver import SecretResolver
from relay.secrets.vault import Vault
from relay.store.cluster.nodes import NodeRow
from relay.store.db.database import Database
from relay.store.db.health import StoreHealth
from relay.store.people.access import Administrators, ApiTokens, Invitations, PageSessions
from relay.store.people.audit import AuditTable
from relay.store.people.directory import DirectoryTable
from relay.store.queue.messages import StoredMessage
from relay.store.queue.queue import Queue


class QueueActions(Protocol):
    """What people may do with the queue by hand, and what is known of the accounts. Ids are whole ones.

    Where something is done with one message, False means that nothing was: it is gone, or in no state for it.
    A message whose attempt is under way raises Leased.
    """

    async def retry(self, ids: Sequence[str] | None, profile: str | None) -> int:
        """Try messages now: these, those of a profile, or all that wait. Return how many there are."""

    async def hold(self, id_: str, /) -> bool:
        """Let a message wait for `release`."""

    async def release(self, id_: str, /) -> bool:
        """Let a held message go on, with an attempt now."""

    async def remove(self, id_: str, /) -> bool:
        """Take a message out of the queue. Nobody is told."""

    async def export(self, id_: str, /) -> AsyncIterator[bytes] | None:
        """Return the message as it came, in chunks; None where its content is no longer there."""

    def accounts(self) -> list[OpenAccount]:
        """Return every account that mail may leave through.

        Where an address is held with its account, there is an entry of its own for the two, with that `address`.
        """

    def troubled(self) -> list[TroubledAccount]:
        """Return those of `accounts` that are not well. It may be called in a thread."""

    def unreached(self) -> list[UnreachedServer]:
        """Return the servers that nobody gets through to, the one that is away longest first."""

    async def release_account(self, server: str, username: str) -> bool:
        """Forget what holds or slows an account, and every address with it. False: nothing did."""

    def waits_for(self, message: StoredMessage) -> str:
        """Return in a sentence why a message waits; "" where it does not."""

    def next_attempt(self, message: StoredMessage) -> datetime | None:
        """Return when a message is tried next, as far as that is known; None where it waits for a person or no more."""


class Nodes(Protocol):
    """The relays that use the store. Both raise StoreError."""

    async def rows(self) -> tuple[NodeRow, ...]:
        """Return all of them, by name."""

    async def drain(self, name: str, *, is_wanted: bool) -> bool:
        """Say whether one is to be drained; False where there is none of this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Who may come in to the pages and the API, as the store has them."""

    administrators: Administrators
    sessions: PageSessions
    invitations: Invitations
    tokens: ApiTokens

    @classmethod
    def of(cls, database: Database) -> "People":
        """Return the people in a store."""
        return cls(
            administrators=Administrators(database),
            sessions=PageSessions(database),
            invitations=Invitations(database),
            tokens=ApiTokens(database),
        )


@dataclass(slots=True, kw_only=True)
class ControlContext:
    """The parts of one relay. Its `settings` are those in effect: they may be set anew.

    `entries` are the directory in the store, whether or not it is the one in effect.
    `status` returns how the relay is; what the store says of queue and accounts is added to that.
    `metrics` returns the counters as text (`relay.metrics`), given how many messages wait by state (None: the store
    cannot be read), when the oldest of them came, and how many accounts are held; it is None where no relay runs.
    `health` is how the store is.
    """

    settings: Settings
    directory: LiveDirectory
    entries: DirectoryTable
    vault: Vault
    secrets: SecretResolver
    queue: Queue
    queue_actions: QueueActions
    people: People
    audit_table: AuditTable
    audit_log: AuditLog
    nodes: Nodes
    status: Callable[[], Status]
    health: StoreHealth
    metrics: Callable[[Mapping[str, int] | None, Mapping[str, datetime], int], Awaitable[str]] | None = None
    tests: LastTests = field(default_factory=LastTests)


def read_address(text: str, key: str) -> Address:
    """Return the address that a parameter says. Raises Refused with its key."""
    try:
        return Address.parse(text)
    except AddressError as error:
        raise Refused(str(error), key=key) from None


E = TypeVar("E", bound=Entry)


def find_entry(parts: ControlContext, kind: EntryKind[E], name: str) -> E:
    """Return an entry of a kind. Raises NotFound, which says where the name is that of another kind."""
    directory = parts.directory.routing().directory
    entries = kind.entries(directory)
    if name in entries:
        return entries[name]
    for other in KINDS.values():
        if other.table in kind.named_with and name in other.entries(directory):
            raise NotFound(f"'{name}' is no {kind.word}; it is one of the {other.table}")
    raise NotFound(no_such(kind.word, name, entries))
