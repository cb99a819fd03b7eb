"""How a relay is at a glance, and what to do where an account or a server is in trouble.

The remedy is one sentence, by what the server's answer means.
"""

from asyncio import to_thread
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from relay.config.endpoint import TcpAddress, parse_endpoint
from relay.control.context import ControlContext
from relay.control.json_values import fields_of
from relay.control.messages.queue import counts
from relay.control.messages.records import rfc3339
from relay.control.operation import Operation
from relay.control.results import DirectoryState, TroubledAccount, UnreachedServer
from relay.delivery.outcome import State
from relay.directory.directory import Directory
from relay.directory.model import Account, Auth, Meaning, Profile, Server
from relay.doctor.providers import send_as_advice
from relay.incoming.reader import MailboxState
from relay.upstream.outcome import Phase

_DAY = timedelta(days=1)
# Where ten thousand accounts are held at once, these are enough to see why.
_MOST_ACCOUNTS = 50


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose secret an account logs in with: the `kind` ("server", "channel" or "agent") and the name."""

    kind: str
    name: str
    server: Server

    @property
    def words(self) -> str:
        """Which page it is."""
        return f"{self.kind} '{self.name}'"

    @property
    def mending(self) -> str:
        """What gives it another secret, with the command that does."""
        if self.server.auth is Auth.OAUTH2:
            return f"authorize {self.words} again with: relay {self.kind} authorize {self.name}"
        return f"set a new password for {self.words} with: relay {self.kind} password {self.name}"


def holder_of(directory: Directory, account: Account, profiles: Sequence[str]) -> Holder | None:
    """Return whose secret it is: the server's own account, else a profile with override; None where both are gone."""
    server = directory.servers.get(account.server)
    if server is None:
        return None
    if server.username == account.username:
        return Holder("server", server.name, server)
    found = (profile for name in profiles if (profile := directory.profile(name)) and _is_own(profile, account))
    first = next(found, None)
    return Holder(str(first.kind), first.name, server) if first else None


def advice(troubled: TroubledAccount, holder: Holder | None) -> str:
    """Return what to do about an account in trouble, and where."""
    if holder is None:
        return (
            "nobody sends through this account any more: put its server or profile back, or let the mail that waits "
            f"go with: relay account release {troubled.account}"
        )
    until = troubled.until
    match troubled.means:
        case Meaning.LOGIN_REFUSED:
            return holder.mending
        case Meaning.IDENTITY_REFUSED:
            then = f"then let its mail go on with: relay account release {troubled.account}"
            return f"to send as {troubled.address}, {send_as_advice(holder.server.effective_host)}; {then}"
        case Meaning.QUOTA:
            return _wait("the provider's limit is used up", until, "or raise the limit there")
        case Meaning.LOCK_OUT:
            return _wait("the provider has locked the account for a while", until, "or unlock it there")
        case Meaning.ACCOUNT_FULL:
            return _wait("the mailbox of the account is full: make room in it", until, "which looks again by itself")
        case Meaning.THROTTLE:
            return _wait("the server asks for a slower pace", until, "nothing needs to be done")
        case _:
            then = f"then let its mail go on with: relay account release {troubled.account}"
            return f"read the server's words, do what they say, {then}"


def reach_advice(unreached: UnreachedServer) -> str:
    """Return what to do about a server that nobody gets through to."""
    match unreached.phase:
        case Phase.RESOLVE:
            look = "its name is not found: look at its host, and at the name servers of this machine"
        case Phase.STARTTLS:
            look = "encryption does not begin: look at its security, its certificate and ca_file"
        case _:
            look = "it does not answer: look at its host and port, the network and the firewall"
    taken = f"its mail goes by '{unreached.backup}' meanwhile" if unreached.backup else ""
    then = taken or "what waits goes on by itself when it is back"
    return f"{look}; {then}; test it with: relay server test {unreached.server} --to ADDRESS"


def _is_own(profile: Profile, account: Account) -> bool:
    return profile.override and profile.login_name == account.username


def _wait(why: str, until: str | None, then: str) -> str:
    moment = until.replace("T", " ").replace("Z", " UTC") if until else ""
    when = f"mail goes on at {moment}" if moment else "mail goes on by itself"
    return f"{why}; {when}, {then}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisedServer(UnreachedServer):
    """A server that nobody gets through to, and what to do about it."""

    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What became of the messages of a day; `waiting` and `held` are those of now."""

    came: int
    sent: int
    failed: int
    removed: int
    waiting: int
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderRecord:
    """Whose secret an account logs in with."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewAccount:
    """An account in trouble at a glance. `waiting`: how many messages wait for it, where it is held."""

    account: str
    server: str
    username: str
    address: str
    state: str
    held_since: str | None
    reason: str
    next_probe: str | None
    means: str
    until: str | None
    waiting: int | None
    used_by: int
    holder: HolderRecord | None
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSteps:
    """How far somebody is who begins with nothing."""

    server: bool
    profile: bool
    delivered: bool

    @property
    def are_done(self) -> bool:
        """Whether there is nothing left to begin with."""
        return self.server and self.profile and self.delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class EntranceRecord:
    """What a mail client is told of a listener that it reaches by the network."""

    name: str
    host: str
    port: int
    security: str
    auth: str
    trusted_networks: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewRecord:
    """What a person who looks after the relay wants to see first. `totals` are of the messages since `since`."""

    since: str
    totals: Totals
    queue: Mapping[str, int]
    oldest: str | None
    troubled: int
    accounts: Sequence[OverviewAccount]
    unreached: Sequence[AdvisedServer]
    directory: DirectoryState
    mailboxes: Sequence[MailboxState]
    steps: FirstSteps
    listeners: Sequence[str]
    entrances: Sequence[EntranceRecord]
    first_sender: str | None
    version: str | None
    running_since: str | None


class Overview:
    """`overview`: what a person who looks after the relay wants to see first."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"overview": Operation(self.overview)}

    async def overview(self) -> OverviewRecord:
        """Return what came in 24 hours, what waits, who is in trouble and what to do, and the first steps."""
        parts, now = self._parts, datetime.now(UTC)
        status, queue = parts.status(), await counts(parts.queue)
        troubled = await to_thread(parts.queue_actions.troubled)
        return OverviewRecord(
            since=rfc3339(now - _DAY),
            totals=await self._totals(now - _DAY, now, queue),
            queue=queue,
            oldest=rfc3339(await parts.queue.oldest()),
            troubled=len(troubled),
            accounts=await self._accounts(troubled),
            unreached=[
                AdvisedServer(**fields_of(one), advice=reach_advice(one)) for one in parts.queue_actions.unreached()
            ],
            directory=status.directory,
            mailboxes=[mailbox for mailbox in status.mailboxes if mailbox.state == "failing"],
            steps=await self._steps(),
            listeners=status.listeners,
            entrances=self._entrances(),
            first_sender=self._first_sender(),
            version=status.version,
            running_since=status.since,
        )

    async def _totals(self, since: datetime, until: datetime, queue: Mapping[str, int]) -> Totals:
        """Return how many messages of a time are over, by what became of them, and how many wait now."""
        states = [str(state) for state in State]
        numbers = dict.fromkeys(states, 0)
        for one in await self._parts.queue.counts_over_time(states, since, until + timedelta(seconds=1), _DAY):
            numbers[one.state] += one.number
        held = queue[State.HELD]
        return Totals(
            came=sum(numbers.values()),
            sent=numbers[State.DELIVERED],
            failed=numbers[State.FAILED],
            removed=numbers[State.REMOVED],
            waiting=sum(queue.values()) - held,
            held=held,
        )

    async def _accounts(self, troubled: Sequence[TroubledAccount]) -> list[OverviewAccount]:
        """Return the accounts in trouble, the held ones first, then by how much waits for them."""
        counted = await self._parts.queue.held_counts() if troubled else {}
        waiting = [(counted.get(one.account, 0) if one.state == "held" else None, one) for one in troubled]
        worst = sorted(waiting, key=lambda found: (found[0] is None, -(found[0] or 0), found[1].account))
        return [self._advised(one, number) for number, one in worst[:_MOST_ACCOUNTS]]

    def _advised(self, one: TroubledAccount, waiting: int | None) -> OverviewAccount:
        """Return an account in trouble with whose secret it is and what to do."""
        directory = self._parts.directory.routing().directory
        holder = holder_of(directory, Account(one.server, one.username), one.profiles)
        return OverviewAccount(
            account=one.account,
            server=one.server,
            username=one.username,
            address=one.address,
            state=one.state,
            held_since=one.held_since,
            reason=one.reason,
            next_probe=one.next_probe,
            means=one.means,
            until=one.until,
            waiting=waiting,
            used_by=len(one.profiles),
            holder=HolderRecord(kind=holder.kind, name=holder.name) if holder else None,
            advice=advice(one, holder),
        )

    def _entrances(self) -> list[EntranceRecord]:
        """Return what a mail client is told of each listener that it reaches by the network."""
        found = []
        for listener in self._parts.settings.listeners:
            endpoint = parse_endpoint(listener.address)
            if isinstance(endpoint, TcpAddress):
                entrance = EntranceRecord(
                    name=listener.name,
                    host=self._reached_by(endpoint.host),
                    port=endpoint.port,
                    security=listener.security,
                    auth=listener.auth,
                    trusted_networks=[str(network) for network in listener.trusted_networks],
                )
                found.append(entrance)
        return found

    def _reached_by(self, host: str) -> str:
        """Return by which name a mail client reaches a listener: one that is open on every address has none itself."""
        try:
            is_everywhere = ip_address(host).is_unspecified
        except ValueError:
            is_everywhere = False
        return self._parts.settings.effective_hostname if is_everywhere else host

    def _first_sender(self) -> str | None:
        """Return the address of one who may send, for an example; None while there is nobody."""
        return next((profile.address for profile in self._parts.directory.routing().directory.profiles()), None)

    async def _steps(self) -> FirstSteps:
        """Return how far somebody is who begins with nothing."""
        directory = self._parts.directory.routing().directory
        return FirstSteps(
            server=bool(directory.servers),
            profile=bool(directory.channels or directory.agents),
            delivered=await self._parts.queue.has_any(State.DELIVERED),
        )
