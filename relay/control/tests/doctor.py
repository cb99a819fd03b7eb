"""The doctor's rounds: every server, account and domain is looked at once, however many profiles need it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeAlias

from relay.config.schema import no_such
from relay.control.context import Parts
from relay.control.operation import Access, Operation
from relay.control.refused import NotFound
from relay.control.tests.doctor_targets import DoctorTarget, by_server, outlets_of, patients_of
from relay.control.tests.results import FindingRecord
from relay.directory.model import Profile
from relay.directory.routing import Routing
from relay.doctor.domain import check_domain
from relay.doctor.finding import Check, Finding, bad
from relay.doctor.lookup import Dns
from relay.doctor.outlet import Outlet
from relay.doctor.server_check import check_login, check_send_as, check_server
from relay.doctor.visit import Visit, visit
from relay.secrets.secret import Secret
from relay.secrets.sources import SecretUnavailable

# Enough for ten thousand accounts in some minutes, and no crowd at anybody's door.
_VISITS = 16
_VISITS_OF_ONE_SERVER = 8

_Records: TypeAlias = list[FindingRecord]


class Doctor:
    """The operation `doctor`, which tells what it finds as it finds it."""

    def __init__(self, parts: Parts) -> None:
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
        patients = await asyncio.to_thread(patients_of, routing, profiles, with_unused=profile is None)
        rounds = _Rounds(self._parts)
        dns = Dns(self._parts.settings.dns.servers)
        work = asyncio.gather(
            *(rounds.examine_server(group) for group in by_server(patients)),
            *(rounds.examine_domain(dns, *outlet) for outlet in outlets_of(patients, selectors).items()),
        )
        work.add_done_callback(lambda _: rounds.found.put_nowait(None))
        try:
            while (records := await rounds.found.get()) is not None:
                yield records
            await work
        finally:
            work.cancel()


class _Rounds:
    """One examination. What is found is put into `found` at once; who started it puts None at the end."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._turns = asyncio.Semaphore(_VISITS)
        self.found: asyncio.Queue[_Records | None] = asyncio.Queue()

    async def examine_domain(self, dns: Dns, outlet: Outlet, names: list[str]) -> None:
        """Look at what DNS says about the domain of an outlet."""
        self.found.put_nowait(_records(await check_domain(dns, outlet), names, None))

    async def examine_server(self, group: list[DoctorTarget]) -> None:
        """Look at one server with every account; the first visit says what holds for all."""
        first, *others = group
        most = first.server.max_connections if first.server.shared_limits else _VISITS_OF_ONE_SERVER
        own_turns = asyncio.Semaphore(min(most, _VISITS_OF_ONE_SERVER))
        seen = await self._visit(first, own_turns)
        everybody = [name for patient in group for name in patient.names]
        self.found.put_nowait(_records(check_server(first.server, seen), everybody, first.server.name))
        if not seen.is_turned_away:  # else nobody would get in
            await asyncio.gather(*(self._visit(patient, own_turns) for patient in others))

    async def _visit(self, patient: DoctorTarget, own_turns: asyncio.Semaphore) -> Visit:
        """Visit with one account, and tell what is found about it."""
        async with own_turns, self._turns:
            secret, lack = await self._secret(patient)
            hello = self._parts.settings.effective_hostname
            seen = await visit(patient.server, patient.account, secret, patient.identities, hello=hello)
        self.found.put_nowait(_about_account(patient, seen, lack))
        return seen

    async def _secret(self, patient: DoctorTarget) -> tuple[Secret | None, Finding | None]:
        """Return the secret to log in with, or what is wrong with it."""
        ref, account, command = patient.ref, patient.account, patient.command
        if ref is None:
            return None, None
        self._parts.secrets.forget(ref)  # an examination asks the password's source anew
        try:
            secret = await self._parts.secrets.secret(ref)
        except SecretUnavailable as unavailable:
            why = f"the secret of {account} cannot be had: {unavailable}"
            return None, bad(Check.LOGIN, why, f"mend where it comes from, or set it with: {command}")
        if secret is None:
            way = "set it" if ref.token is None else "let it log in"
            return None, bad(Check.LOGIN, self._parts.secrets.lack(ref, account), f"{way} with: {command}")
        return secret, None


def _about_account(patient: DoctorTarget, seen: Visit, lack: Finding | None) -> _Records:
    server = patient.server
    login = check_login(server, seen, command=patient.command)
    if seen.is_at_login and lack is not None:
        login = lack
    records = _records([login] if login else [], patient.names, server.name)
    for identity, profiles in patient.identities.items():
        command = patient.test_command(identity)
        found = check_send_as(server, seen, identity, patient.account.username, command=command)
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
