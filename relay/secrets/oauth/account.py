"""What is known of one account's tokens besides what the vault has, and how that is told."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from relay.secrets.oauth.record import TokenRecord
from relay.secrets.secret import Secret, SecretRef, TokenRef
from relay.secrets.sources import SecretDelayed, SecretUnavailable


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last renewal failed, and until when the provider is not asked again. `times`: how often in a row.

    `version` is the secret's at that time: with another one it is worth asking at once.
    """

    error: SecretUnavailable
    version: str
    until: datetime
    times: int

    @property
    def is_passing(self) -> bool:
        """Whether the provider is only away or busy."""
        return isinstance(self.error, SecretDelayed)


@dataclass(slots=True)
class TokenAccount:
    """One account in use. `unsaved` is what the provider gave last and the store did not take yet, in place of
    `unsaved_over`. `ref` may be another in all but whose the tokens are and where they go; the `turn` is the owner's.

    `kept` and `record` are the same thing: the vault's secret, and what it says. `renewing` is the renewal under way,
    `keeper` the task that renews ahead, `saver` the one that waits for the store.
    """

    ref: SecretRef
    token: TokenRef
    turn: asyncio.Lock
    kept: Secret | None = None
    record: TokenRecord | None = None
    unsaved: TokenRecord | None = None
    unsaved_over: TokenRecord | None = None
    trouble: Trouble | None = None
    renewing: asyncio.Task[TokenRecord] | None = None
    keeper: asyncio.Task[None] | None = None
    saver: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenState:
    """How the tokens of an account are: `state` is ok, missing, delayed or refused, `error` why."""

    state: str
    expires: datetime | None = None
    refreshed: datetime | None = None
    error: str = ""


def state_of(record: TokenRecord | None, trouble: Trouble | None, *, is_set: bool) -> TokenState:
    """Return how the tokens of an account are, from its record and what happened last."""
    error = str(trouble.error) if trouble else record.refusal if record else ""
    state = "delayed" if trouble and trouble.is_passing else "refused" if error else "ok" if is_set else "missing"
    if record is None:
        return TokenState(state=state, error=error)
    return TokenState(state=state, expires=record.expires, refreshed=record.issued, error=error)
