"""What the operations on the relay itself return: the keys of the JSON as fields. Times are of RFC 3339, in UTC."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from relay.config.faults import Fault
from relay.incoming.reader import MailboxState


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was asked is done."""

    ok: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRecord:
    """A webhook of relay.toml, by its number there, and how it answers: ok, failing, or new (it was told nothing yet).

    `waiting`: events that it is not told yet, the oldest since `oldest`; `held`: those that it did not take in three
    days. It is failing `since` then, for this `reason`, and asked again at `next_attempt`.
    """

    number: int
    url: str
    events: Sequence[str]
    profiles: Sequence[str]
    state: str
    waiting: int
    oldest: str | None
    held: int
    failures: int
    since: str | None
    next_attempt: str | None
    reason: str
    delivered: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldRecord:
    """A trouble that somebody was told of and that is not over: since when, and when they were told last."""

    kind: str
    title: str
    since: str
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRecord:
    """Who is told of troubles, by its number in relay.toml, of what, and of which they were told."""

    number: int
    to: str
    on: Sequence[str]
    troubles: Sequence[ToldRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """How many events are told again."""

    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRecord:
    """What is wrong in a file, by its key."""

    file: str
    key: str
    message: str


def records_of(faults: Iterable[Fault]) -> list[FaultRecord]:
    """Return faults as results have them."""
    return [FaultRecord(file=fault.file, key=fault.key, message=fault.message) for fault in faults]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsState:
    """How relay.toml is: without faults it is in effect, but for the keys that need a restart."""

    ok: bool = True
    faults: Sequence[FaultRecord] = ()
    needs_restart: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryState:
    """How the directory is: with faults the one before stays in effect."""

    ok: bool = True
    faults: Sequence[FaultRecord] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One process that hands over mail."""

    index: int
    pid: int
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """How many lines of the log could not be written."""

    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebState:
    """Where the pages are; without an address `trouble` says why not."""

    address: str | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAccount:
    """An account that is held; `address` is "" where the whole account is."""

    account: str
    address: str
    held_since: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenState:
    """How the token of an account is: ok, missing (nobody authorized it), delayed (the provider is away) or refused."""

    account: str
    expires: str | None
    refreshed: str | None
    state: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """How the store is; `reason` is the kind of trouble as one word."""

    ok: bool = True
    reason: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreachedServer:
    """A server that nobody gets through to: how many `times` in a row, and the `phase` and `reason` of the last one.

    `backup` is the server that sends its mail meanwhile, "" where it waits.
    """

    server: str
    since: str
    times: int
    phase: str
    reason: str
    backup: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a relay is. The defaults are those of one that does not run, of whose store nothing could be read.

    `queue` has how many messages wait by state, and `oldest` is when the first of them came.
    """

    running: bool = False
    pid: int | None = None
    version: str | None = None
    node: str | None = None
    leads: bool | None = None
    state: str | None = None
    since: str | None = None
    state_dir: str | None = None
    listeners: Sequence[str] = ()
    connections: int = 0
    workers: Sequence[WorkerState] = ()
    settings: SettingsState = SettingsState()
    directory: DirectoryState = DirectoryState()
    log: LogState = LogState()
    web: WebState = WebState()
    mailboxes: Sequence[MailboxState] = ()
    queue: Mapping[str, int]
    oldest: str | None = None
    accounts_held: Sequence[HeldAccount] = ()
    unreached: Sequence[UnreachedServer] = ()
    oauth: Sequence[TokenState] = ()
    store: StoreState = StoreState()


NOT_RUNNING = Status(queue={})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """One of the relays that use the store. One that has said nothing for too long is in the state "silent"."""

    name: str
    state: str
    drain: bool
    leads: bool
    version: str
    since: str
    seen: str
    workers: int
    clients: int
    messages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedMessage:
    """A message that waits and is not what came."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCheck:
    """What a look through the store found. `unchecked`: messages of an older relay, which have no digest."""

    ok: bool
    messages: int
    octets: int
    unchecked: int
    damaged: Sequence[DamagedMessage]
    structure: Sequence[str]


@dataclass(frozen=True, slots=True)
class StoreCopy:
    """Where a whole copy of the store is. Who asked removes it."""

    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryExport:
    """The directory in the database, as a directory.toml says it."""

    text: str
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryImport:
    """What a file makes of the directory in the database; with `done` it is made. `version` names what was found."""

    file: str
    database: str
    adds: Sequence[str]
    changes: Sequence[str]
    removes: Sequence[str]
    unchanged: int
    version: str
    faults: Sequence[FaultRecord]
    done: bool
    in_effect: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountState:
    """An account, or one with an `address` where only the two are held. `state`: "ok", "slowed" or "held"."""

    account: str
    server: str
    username: str
    address: str
    profiles: Sequence[str]
    state: str
    held_since: str | None
    reason: str
    next_probe: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccount(AccountState):
    """An account, and how many connections it has open."""

    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord(OpenAccount):
    """An account as `account list` has it; `oauth` says how its token is, where it has any."""

    oauth: TokenState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubledAccount(AccountState):
    """An account that is held or slowed: what its server said ("throttle", …), and `until` when it is tried again."""

    means: str
    until: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisedAccount(TroubledAccount):
    """An account in trouble, and what to do about it."""

    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReleased:
    """The account whose mail goes on."""

    ok: bool = True
    account: str
