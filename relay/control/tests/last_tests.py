"""What came of the last test of each server, channel and agent, for as long as a relay runs."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from relay.control.entries.assignments import version_of
from relay.control.tests.results import LastTestRecord, StepRecord
from relay.directory.model import Profile, Server

Steps: TypeAlias = AsyncIterator[StepRecord]


@dataclass(frozen=True, slots=True)
class LastTest:
    """One test: when it ended, how, and the step that failed or was the last; `version` says what was tested."""

    at: datetime
    ok: bool
    step: str
    detail: str
    version: str


class LastTests:
    """The last test of each entry. A name that goes to another entry begins anew: the version tells them apart."""

    def __init__(self) -> None:
        self._tests: dict[tuple[str, str], LastTest] = {}

    async def kept(self, entry: Server | Profile, steps: Steps) -> Steps:
        """Yield the steps of a test, and keep what came of it; of one that nobody watched to its end, nothing."""
        told: StepRecord | None = None
        async with aclosing(steps) as watched:  # type: ignore[type-var]  # every one of them is a generator
            async for step in watched:
                if told is None or told.ok:
                    told = step
                yield step
        if told is not None:
            test = LastTest(datetime.now(UTC), told.ok, told.step, told.detail, version_of(entry))
            self._tests[_key(entry)] = test

    def forget(self, entry: Server | Profile) -> None:
        """Forget the test of an entry that is removed."""
        self._tests.pop(_key(entry), None)

    def record(self, entry: Server | Profile) -> LastTestRecord | None:
        """Return the last test of an entry."""
        test = self._tests.get(_key(entry))
        if test is None:
            return None
        return LastTestRecord(
            at=f"{test.at:%Y-%m-%dT%H:%M:%SZ}",
            ok=test.ok,
            step=test.step,
            detail=test.detail,
            current=test.version == version_of(entry),
        )


def _key(entry: Server | Profile) -> tuple[str, str]:
    return "server" if isinstance(entry, Server) else entry.kind.value, entry.name
