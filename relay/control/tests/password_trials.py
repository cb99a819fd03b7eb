"""The passwords of many channels or agents, tried one after the other in the background: each by one login.

No message is sent, and nothing is changed: what is refused is listed, so that a person repairs it before mail is held.
A few are tried at once, since a provider counts logins by where they come from. A server that could try none of a few
in a row is asked no more in that run. It ends with the relay.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from relay.control.context import ControlContext
from relay.control.operation import Access, Operation
from relay.control.refused import LoginRefused, Refused
from relay.control.tests.login_check import try_password
from relay.control.tests.results import LoginState, PasswordTrialRecord, TrialState, TriedPassword
from relay.directory.kinds import EntryKind
from relay.directory.model import Profile
from relay.secrets.secret import account_owner
from relay.secrets.sources import SecretUnavailable
from relay.secrets.vault import SecretBroken
from relay.store.db.errors import StoreError

_AT_ONCE = 3
_MOST_UNKNOWN = 3  # in a row, at one server
_MOST_TOLD = 1000


@dataclass(slots=True)
class _Trial:
    """One run: how many passwords there are, and what is known of them so far."""

    total: int
    started: datetime | None
    works: int = 0
    refused: list[TriedPassword] = field(default_factory=list)
    unknown: list[TriedPassword] = field(default_factory=list)
    skipped: int = 0
    in_a_row: Counter[str] = field(default_factory=Counter)  # that could not be tried, by server

    @property
    def tried(self) -> int:
        return self.works + len(self.refused) + len(self.unknown) + self.skipped


class PasswordTrials:
    """`passwords-try`, which begins to try them, and `passwords-tried`, which says how far that is."""

    def __init__(self, parts: ControlContext, kind: EntryKind[Profile]) -> None:
        self._parts = parts
        self._kind = kind
        self._trial: _Trial | None = None
        self._task: asyncio.Task[None] | None = None

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        word = self._kind.word
        return {
            f"{word}.passwords-try": Operation(self.begin, access=Access.ADMIN),
            f"{word}.passwords-tried": Operation(self.tried),
        }

    async def begin(self, *, names: list[str] | None = None) -> PasswordTrialRecord:
        """Begin to try the passwords of these, or of all, in place of a run that is not over yet.

        Those without a password in the vault, and without an account of their own, are left out.
        """
        while self._is_running and self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        directory = self._parts.directory.routing().directory
        entries = self._kind.entries(directory)
        wanted = entries.values() if names is None else filter(None, map(entries.get, dict.fromkeys(names)))
        chosen = [one for one in wanted if one.override and self._parts.vault.has(account_owner(one))]
        self._trial = _Trial(len(chosen), datetime.now(UTC))
        self._task = asyncio.create_task(self._try_all(self._trial, [one.name for one in chosen]))
        return self._record()

    async def tried(self) -> PasswordTrialRecord:
        """Return how far the last run is, and which passwords do not work."""
        return self._record()

    @property
    def _is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _try_all(self, trial: _Trial, names: Sequence[str]) -> None:
        waiting = iter(names)

        async def try_next() -> None:
            for name in waiting:
                await self._try_one(trial, name)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(try_next())

    async def _try_one(self, trial: _Trial, name: str) -> None:
        """Try the password that somebody has now: it may have been changed or removed meanwhile."""
        directory = self._parts.directory.routing().directory
        profile = self._kind.entries(directory).get(name)
        server = directory.server_of(profile) if profile is not None else None
        if profile is None or server is None:
            trial.skipped += 1
            return
        if trial.in_a_row[server.name] >= _MOST_UNKNOWN:
            detail = f"not tried, because {server.name} could not try those before"
            trial.unknown.append(TriedPassword(name=name, state=TrialState.UNKNOWN, detail=detail))
            return
        try:
            known = await self._parts.vault.get(account_owner(profile))
            if known is None:
                trial.skipped += 1
                return
            login = await try_password(self._parts, directory, profile, known.value)
        except LoginRefused as error:
            trial.in_a_row[server.name] = 0
            trial.refused.append(TriedPassword(name=name, state=TrialState.REFUSED, detail=error.words))
        except (Refused, StoreError, SecretBroken, SecretUnavailable) as error:
            trial.unknown.append(TriedPassword(name=name, state=TrialState.UNKNOWN, detail=str(error)))
        else:
            if login.state is LoginState.UNKNOWN:
                trial.in_a_row[server.name] += 1
                trial.unknown.append(TriedPassword(name=name, state=TrialState.UNKNOWN, detail=login.detail))
            elif login.state is LoginState.WORKS:
                trial.in_a_row[server.name] = 0
                trial.works += 1
            else:
                trial.skipped += 1

    def _record(self) -> PasswordTrialRecord:
        trial = self._trial or _Trial(0, None)
        return PasswordTrialRecord(
            started=f"{trial.started:%Y-%m-%dT%H:%M:%SZ}" if trial.started is not None else None,
            running=self._is_running,
            total=trial.total,
            tried=trial.tried,
            works=trial.works,
            refused=len(trial.refused),
            unknown=len(trial.unknown),
            items=[*trial.refused, *trial.unknown][:_MOST_TOLD],
        )
