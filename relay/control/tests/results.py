"""What tests and examinations tell, step by step: the keys of the JSON as fields."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a connection test: whether it went well, and the server's words or ours."""

    step: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTestRecord:
    """What came of the last test of an entry; `current`: the entry is still what was tested."""

    at: str
    ok: bool
    step: str
    detail: str
    current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRecord:
    """What the doctor found.

    `profile` is the one that it is about, None where it is about several (`profiles`) or about the server alone.
    `server` is None where it is about a domain. `record` is what belongs into DNS, and the end of `fix` then.
    """

    check: str
    profile: str | None
    level: str
    why: str
    fix: str
    record: str
    profiles: Sequence[str]
    server: str | None
