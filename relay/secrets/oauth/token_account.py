"""One account's tokens: the record that the vault keeps of them, what is known besides, and how that is told.

The record is JSON under "oauth/server/NAME" or "oauth/profile/NAME".
"""

import asyncio
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Literal

from relay.secrets.oauth.identity_provider import Grant
from relay.secrets.secret import Secret, SecretRef, TokenRef
from relay.secrets.sources import SecretDelayed, SecretUnavailable

if TYPE_CHECKING:
    from pydantic import TypeAdapter


# A token is not used in its last moments: it must live until the server has looked at it, and clocks differ.
_MARGIN_SECONDS = 60.0
_MARGIN_SHARE = 0.1
_RENEWED_AFTER = 0.8
_SPREAD = 0.05
_SHORTEST_REST = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """The tokens of one account, and how they came.

    `id` is another after each authorization, and the same after a renewal: the versions of secrets rest on it.
    `issued` and `expires` are about the access token, by our clock. `refusal` holds the provider's words when it
    renews no more.
    """

    id: str
    client_id: str
    authorized: datetime
    issued: datetime
    expires: datetime
    access_token: str = field(repr=False)
    refresh_token: str = field(default="", repr=False)
    scope: str = ""
    refusal: str = ""
    version: Literal[1] = 1

    @property
    def as_text(self) -> str:
        """The record as the vault keeps it: one line of JSON."""
        return _form().dump_json(self).decode()

    def is_usable(self, now: datetime) -> bool:
        """Whether the access token is good for a while yet. A clock that was set back makes it old."""
        lifetime = self.expires - self.issued
        margin = min(timedelta(seconds=_MARGIN_SECONDS), lifetime * _MARGIN_SHARE)
        return self.issued - _SHORTEST_REST <= now < self.expires - margin

    def renewal_at(self, chance: float) -> datetime:
        """Return when to renew ahead: after 75 to 80 % of the lifetime, `chance` in 0..1 says where in between.

        An access token that lives for some minutes only is renewed 5 minutes before its end where it can be.
        """
        lifetime = self.expires - self.issued
        share = lifetime * (_RENEWED_AFTER - _SPREAD * chance)
        early = lifetime - _SHORTEST_REST
        return self.issued + (min(share, early) if early > lifetime / 2 else share)

    def renewed(self, grant: Grant, now: datetime) -> "TokenRecord":
        """Return the record after a renewal. A refresh token that came replaces the one before (RFC 6749 section 6)."""
        return replace(
            self,
            issued=now,
            expires=now + timedelta(seconds=grant.seconds),
            access_token=grant.access_token,
            refresh_token=grant.refresh_token or self.refresh_token,
            scope=grant.scope or self.scope,
            refusal="",
        )


@cache
def _form() -> "TypeAdapter[TokenRecord]":
    """Return what reads and writes records. Loaded with the first: a relay without tokens needs none."""
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(TokenRecord)


def new_record(grant: Grant, client_id: str, now: datetime, id_: str = "") -> TokenRecord:
    """Return the record of a new authorization."""
    return TokenRecord(
        id=id_ or secrets.token_hex(16),
        client_id=client_id,
        authorized=now,
        issued=now,
        expires=now + timedelta(seconds=grant.seconds),
        access_token=grant.access_token,
        refresh_token=grant.refresh_token,
        scope=grant.scope,
    )


def parse_token_record(text: str, owner: str) -> TokenRecord:
    """Return the record in a secret of the vault. Raises SecretUnavailable, naming whose it is."""
    from pydantic_core import ValidationError  # noqa: PLC0415

    try:
        return _form().validate_json(text)
    except ValidationError:
        raise SecretUnavailable(
            f"the tokens of {owner} are kept in a form that this version does not know; authorize it again"
        ) from None


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
    `renewal_ahead` the task that renews ahead, `saver` the one that waits for the store.
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
    renewal_ahead: asyncio.Task[None] | None = None
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
