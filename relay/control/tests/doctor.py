"""The doctor: every server, account and domain is looked at once, however many profiles need it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from relay.config.schema import no_such
from relay.control.context import ControlContext
from relay.control.operation import Access, Operation
from relay.control.refused import NotFound
from relay.control.tests.results import FindingRecord
from relay.directory.model import Account, Auth, Profile, Server
from relay.directory.routing import Routing
from relay.doctor.dns import Dns
from relay.doctor.domain import check_domain
from relay.doctor.finding import Check, Finding, bad
from relay.doctor.providers import Outlet
from relay.doctor.server import Examination, check_login, check_send_as, check_server, examine
from relay.mail.address import Address
from relay.secrets.secret import Secret, SecretRef, secret_ref
from relay.secrets.sources import SecretUnavailable

# Enough for ten thousand accounts in some minutes, and not too many connections to one server.
_AT_ONCE = 16
_AT_ONE_SERVER = 8
_Records: TypeAlias = list[FindingRecord]


@dataclass(slots=True)
class DoctorTarget:
    """An account of a server with its secret. `command` gives it another secret."""

    server: Server
    account: Account
    ref: SecretRef | None
    command: str
    identities: dict[Address, list[Profile]] = field(default_factory=dict)

    @classmethod
    def of(cls, server: Server, account: Account, profile: Profile | None) -> "DoctorTarget":
        """Return an account that is a profile's own, or the server's where `profile` is None."""
        verb = "authorize" if server.auth is Auth.OAUTH2 else "password"
        whose = f"{profile.kind} {verb} {profile.name}" if profile is not None else f"server {verb} {server.name}"
        return cls(server, account, secret_ref(server, profile, override=profile is not None), f"relay {whose}")

    @property
    def names(self) -> list[str]:
        """Everybody who sends with this account."""
        return [profile.name for profiles in self.identities.values() for profile in profiles]

    def test_command(self, identity: Address) -> str:
        """The command that sends a test message as an identity."""
        profile = next(iter(self.identities[identity]), None)
        whose = f"{profile.kind} test {profile.name}" if profile is not None else f"server test {self.server.name}"
        return f"relay {whose} --to ADDRESS"


def targets_of(routing: Routing, profiles: Iterable[Profile], *, with_unused: bool) -> list[DoctorTarget]:
    """Return the accounts that these profiles send with, and, `with_unused`, those of servers that nobody uses."""
    targets: dict[tuple[Account, SecretRef | None], DoctorTarget] = {}
    for profile in profiles:
        route = routing.route_of(profile)
        if route is not None:
            new = DoctorTarget.of(route.server, route.account, profile if profile.override else None)
            target = targets.setdefault((new.account, new.ref), new)
            target.identities.setdefault(route.identity, []).append(profile)
    if with_unused:
        used = {target.server.name for target in targets.values()}
        for server in routing.directory.servers.values():
            if server.name not in used:
                new = DoctorTarget.of(server, Account(server.name, server.username), None)
                new.identities.update({server.identity: []} if server.identity else {})
                targets[new.account, new.ref] = new
    return list(targets.values())


def by_server(targets: Iterable[DoctorTarget]) -> list[list[DoctorTarget]]:
    """Return the accounts of each server."""
    groups: dict[str, list[DoctorTarget]] = {}
    for target in targets:
        groups.setdefault(target.server.name, []).append(target)
    return list(groups.values())


def outlets_of(targets: Iterable[DoctorTarget], selectors: tuple[str, ...]) -> Mapping[Outlet, list[str]]:
    """Return who sends through each outlet. Where domain, server and account's domain are the same, so is all DNS."""
    outlets: dict[Outlet, list[str]] = {}
    for target in targets:
        for identity, profiles in target.identities.items():
            outlet = Outlet.of(identity, target.server.effective_host, target.account.username, selectors)
            outlets.setdefault(outlet, []).extend(profile.name for profile in profiles)
    return outlets


async def bad_findings(context: ControlContext) -> list[FindingRecord]:
    """Return what is bad about all profiles and servers, as the operation finds it."""
    found = [record async for records in DoctorOperation(context).doctor() for record in records]
    return [record for record in found if record.level == "bad"]


class DoctorOperation:
    """The operation `doctor`, which tells what it finds as it finds it."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"doctor": Operation(self.doctor, is_stream=True, access=Access.ADMIN)}

    def doctor(self, *, name: str | None = None, selectors: list[str] | None = None) -> AsyncIterator[_Records]:
        """Examine one profile, or all profiles and servers. `selectors` are DKIM selectors that the person knows."""
        routing = self._parts.directory.routing()
        profile = _find(routing, name) if name is not None else None
        return self._examine(routing, profile, tuple(selectors or ()))

    async def _examine(
        self, routing: Routing, profile: Profile | None, selectors: tuple[str, ...]
    ) -> AsyncIterator[_Records]:
        profiles = [profile] if profile is not None else list(routing.directory.profiles())
        # In a thread: ten thousand routes take a moment, which holds up no message.
        targets = await asyncio.to_thread(targets_of, routing, profiles, with_unused=profile is None)
        run = _DoctorRun(self._parts)
        dns = Dns(self._parts.settings.dns.servers)
        work = asyncio.gather(
            *(run.examine_server(group) for group in by_server(targets)),
            *(run.examine_domain(dns, *outlet) for outlet in outlets_of(targets, selectors).items()),
        )
        work.add_done_callback(lambda _: run.found.put_nowait(None))
        try:
            while (records := await run.found.get()) is not None:
                yield records
            await work
        finally:
            work.cancel()


class _DoctorRun:
    """One examination. What is found is put into `found` at once; who started it puts None at the end."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self.found: asyncio.Queue[_Records | None] = asyncio.Queue()

    async def examine_domain(self, dns: Dns, outlet: Outlet, names: list[str]) -> None:
        """Look at what DNS says about the domain of an outlet."""
        self.found.put_nowait(_records(await check_domain(dns, outlet), names, None))

    async def examine_server(self, group: list[DoctorTarget]) -> None:
        """Look at one server with every account; the first examination says what holds for all."""
        first, *others = group
        most = first.server.max_connections if first.server.shared_limits else _AT_ONE_SERVER
        own_turns = asyncio.Semaphore(min(most, _AT_ONE_SERVER))
        seen = await self._examine_account(first, own_turns)
        everybody = [name for target in group for name in target.names]
        self.found.put_nowait(_records(check_server(first.server, seen), everybody, first.server.name))
        if not seen.is_turned_away:  # else nobody would get in
            await asyncio.gather(*(self._examine_account(target, own_turns) for target in others))

    async def _examine_account(self, target: DoctorTarget, own_turns: asyncio.Semaphore) -> Examination:
        """Examine it with one account, and tell what is found about it."""
        async with own_turns, self._turns:
            secret, lack = await self._secret(target)
            hello = self._parts.settings.effective_hostname
            seen = await examine(target.server, target.account, secret, target.identities, hello=hello)
        self.found.put_nowait(_about_account(target, seen, lack))
        return seen

    async def _secret(self, target: DoctorTarget) -> tuple[Secret | None, Finding | None]:
        """Return the secret to log in with, or what is wrong with it."""
        ref, account, command = target.ref, target.account, target.command
        if ref is None:
            return None, None
        self._parts.secrets.forget(ref)  # an examination asks the password's source anew
        try:
            secret = await self._parts.secrets.secret(ref)
        except SecretUnavailable as unavailable:
            why = f"the secret of {account} cannot be had: {unavailable}"
            return None, bad(Check.LOGIN, why, f"correct its source, or set it with: {command}")
        if secret is None:
            way = "set it" if ref.token is None else "let it log in"
            return None, bad(Check.LOGIN, self._parts.secrets.lack(ref, account), f"{way} with: {command}")
        return secret, None


def _about_account(target: DoctorTarget, seen: Examination, lack: Finding | None) -> _Records:
    server = target.server
    login = check_login(server, seen, command=target.command)
    if seen.is_at_login and lack is not None:
        login = lack
    records = _records([login] if login else [], target.names, server.name)
    for identity, profiles in target.identities.items():
        command = target.test_command(identity)
        found = check_send_as(server, seen, identity, target.account.username, command=command)
        records += _records([found] if found else [], [profile.name for profile in profiles], server.name)
    return records


def _records(findings: Iterable[Finding], names: list[str], server: str | None) -> _Records:
    return [
        FindingRecord(
            check=finding.check.value,
            profile=names[0] if len(names) == 1 else None,
            level=finding.level.value,
            why=finding.why,
            fix=f"{finding.fix}: {finding.record}" if finding.record else finding.fix,
            record=finding.record,
            profiles=names,
            server=server,
        )
        for finding in findings
    ]


def _find(routing: Routing, name: str) -> Profile:
    directory = routing.directory
    profile = directory.profile(name)
    if profile is None:
        raise NotFound(no_such("profile", name, [*directory.channels, *directory.agents]))
    return profile
