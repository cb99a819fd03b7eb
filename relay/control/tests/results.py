"""What tests and examinations tell, step by step: the keys of the JSON as fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a connection test: whether it went well, and the server's words or ours."""

    step: str
    ok: bool
    detail: str


class LoginState(StrEnum):
    """What is known of a password: the server takes it, nobody could ask, or nobody asked."""

    WORKS = "works"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginCheck:
    """What came of logging in with a password before it was kept. `detail` has the server's words, or ours."""

    state: LoginState
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordKept:
    """A mail password is in the vault; `login` says whether it works."""

    ok: bool
    login: LoginCheck


class TrialState(StrEnum):
    """Why a password is told of: the server refuses it, or could not try it."""

    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedPassword:
    """Whose password does not work, or is not known to. `detail` has the server's words, or ours."""

    name: str
    state: TrialState
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordTrialRecord:
    """How far the passwords of many are tried, and how many do not work; `items` are the first of these, refused first.

    `unknown` are those that their server could not try. What is not needed any more is `tried`, and none of the three.
    `started` is None where none were tried since Relay started.
    """

    started: str | None
    running: bool
    total: int
    tried: int
    works: int
    refused: int
    unknown: int
    items: Sequence[TriedPassword]


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
