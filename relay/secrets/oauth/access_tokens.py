"""The access tokens of accounts that log in by OAuth: kept in the vault, renewed ahead and when they are refused.

Who asks for a token has it at once while it is good. Otherwise it is renewed, by one request that all wait for and
that nobody's leaving ends: the provider may have made the old refresh token worthless already, so what it answers is
in the vault before it is used. In a service each authorized account has a task that renews ahead, so nobody waits, and
a refresh token that lapses unless it is used now and then (Microsoft's does after 90 days) does not.

The version of such a secret changes with a new authorization or client secret, not with a renewal: connections stay,
and a hold knows when a person did something about it.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from relay import log
from relay.secrets.oauth.identity_provider import Grant, IdentityProvider, TokenRefused, may_spend_refresh_tokens
from relay.secrets.oauth.token_account import (
    TokenAccount,
    TokenRecord,
    TokenState,
    Trouble,
    new_record,
    parse_token_record,
    state_of,
)
from relay.secrets.renewal_lease import LeasesAway, NoOtherProcess, RenewalLease, RenewalLeases
from relay.secrets.secret import Secret, SecretRef, client_owner
from relay.secrets.sources import UNBOUND, SecretDelayed, SecretUnavailable
from relay.secrets.vault import Vault
from relay.system.clock import utc_now
from relay.system.files import file_stamp, in_file_thread, read_regular_file
from relay.system.process import in_short_turns

# A provider that is away is asked again after a pause, one that refuses after a longer one: waiting mail must not ask
# it over and over. A held account's first probe comes later than both.
_AWAY_SECONDS = (5.0, 10.0, 30.0, 60.0)
_REFUSED_SECONDS = 600.0
_AT_ONCE = 8
_LONGEST_SLEEP = 300.0
_STOP_SECONDS = 20.0


class Tokens:
    """The tokens of all accounts. Refs are those with a `token`. Close it where it renews ahead.

    `renews_ahead` says whether this process does so now, for all. Where there are other processes, `leases` keeps them
    out while one renews.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        renews_ahead: Callable[[], bool] = lambda: False,
        leases: RenewalLeases | None = None,
        provider: IdentityProvider | None = None,
        clock: Callable[[], datetime] = utc_now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._vault = vault
        self._renews_ahead = renews_ahead
        self._leases = leases or NoOtherProcess()
        self._provider = provider
        self._clock = clock
        self._chance = chance
        # By owner and by where the tokens go: a renewal that began for one server never becomes one for another.
        self._accounts: dict[tuple[str, str], TokenAccount] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._keys: dict[str, tuple[tuple[int, ...] | None, str]] = {}
        self._has_read = False

    def is_set(self, ref: SecretRef) -> bool:
        """Tell whether somebody authorized this account. Cheap. A client that logs in as itself needs its secret."""
        token = ref.token
        is_own = token is not None and token.is_own
        if is_own and token is not None and token.client.key_file:
            return True
        owner, place = (
            (client_owner(token.server), token.client_bound_to) if token and is_own else (ref.owner, ref.bound_to)
        )
        return self._vault.is_for(owner, place) or self._vault.is_unbound(owner)

    async def secret(self, ref: SecretRef) -> Secret | None:
        """Return the access token of now, None where nobody authorized this account.

        Raises TokenRefused, SecretDelayed, SecretUnavailable, and what the store raises.
        """
        if not self.is_set(ref):
            return None
        account = self._account(ref)
        record = await self._record(account)
        if record is None and not account.token.is_own:
            return None
        if record is None or not record.is_usable(self._clock()):
            record = await self._renewed(account)
        self._keep_fresh(account)
        return await self._secret(account, record)

    async def version(self, ref: SecretRef) -> str | None:
        """Return the version that the secret has or would have, without asking the provider; None where none is set."""
        if not self.is_set(ref):
            return None
        account = self._account(ref)
        record = await self._record(account)
        if record is not None:
            return await self._version(account, record.id)
        return await self._version(account, await self._own_id(account)) if account.token.is_own else None

    async def renewed(self, ref: SecretRef, refused: Secret) -> Secret | None:
        """Return another access token than one that the mail server refused. Raises as `secret`."""
        account = self._account(ref)
        record = await self._record(account)
        if record is None or record.access_token == refused.value or not record.is_usable(self._clock()):
            record = await self._renewed(account)
        return await self._secret(account, record)

    async def keep(self, ref: SecretRef, grant: Grant) -> TokenRecord:
        """Keep the tokens of a new authorization, durably, and return their record."""
        account = self._account(ref)
        record = new_record(grant, account.token.client.client_id, self._clock())
        async with self._leases.lease(ref.owner) as lease, account.turn:
            account.unsaved = account.unsaved_over = account.trouble = None
            await self._vault.put(ref.owner, record.as_text, bound_to=ref.bound_to, under=lease.named)
            await self._kept(account)
        self._keep_fresh(account)
        return record

    def watch(self, refs: Iterable[SecretRef]) -> None:
        """Renew the tokens of these accounts ahead, where they have any, and those of no others."""
        wanted = {(ref.owner, ref.bound_to): ref for ref in refs if not ref.source}
        for key, account in self._accounts.items():
            if key not in wanted and account.renewal_ahead is not None:
                account.renewal_ahead.cancel()
        for ref in wanted.values():
            if self._vault.has(ref.owner):
                self._keep_fresh(self._account(ref))

    async def try_out(self, ref: SecretRef) -> TokenRecord:
        """Ask the provider for a token now, whatever it said before. Raises as `secret`."""
        account = self._account(ref)
        account.trouble = None
        return await self._renewed(account)

    async def forget(self, owner: str) -> None:
        """Remove an account's tokens."""
        for key in [key for key in self._accounts if key[0] == owner]:
            account = self._accounts.pop(key)
            if account.renewal_ahead is not None:
                account.renewal_ahead.cancel()
        if self._vault.has(owner):
            async with self._leases.lease(owner):
                await self._vault.delete(owner)

    async def state(self, ref: SecretRef) -> TokenState:
        """Return how an account's tokens are, as far as it is known."""
        account = self._account(ref)
        try:
            record = await self._record(account)
        except SecretUnavailable as broken:
            return TokenState(state="refused", error=str(broken))
        is_set = record is not None or (account.token.is_own and self.is_set(ref))
        return state_of(record, account.trouble, is_set=is_set)

    async def aclose(self) -> None:
        """Renew nothing more. A renewal that is under way ends first: its answer may be all that is left."""
        for account in self._accounts.values():
            for task in (account.renewal_ahead, account.saver):
                if task is not None:
                    task.cancel()
        renewing = [one.renewing for one in self._accounts.values() if one.renewing and not one.renewing.done()]
        if renewing:
            await asyncio.wait(renewing, timeout=_STOP_SECONDS)

    # what is kept

    def _account(self, ref: SecretRef) -> TokenAccount:
        if ref.token is None:
            raise ValueError(f"{ref.owner} has no tokens")
        key = (ref.owner, ref.bound_to)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = TokenAccount(ref, ref.token, self._turns[ref.owner])
        account.ref, account.token = ref, ref.token  # a changed directory counts from now on
        return account

    async def _record(self, account: TokenAccount, *, latest: bool = False) -> TokenRecord | None:
        """Return the record if it is one of this client; a client that logs in as itself makes its own anew."""
        return account.unsaved or await self._kept(account, latest=latest)

    async def _kept(self, account: TokenAccount, *, latest: bool = False) -> TokenRecord | None:
        """Return the record of the vault, as `_record`."""
        owner = account.ref.owner
        kept = await (self._vault.latest(owner) if latest else self._from_vault(owner))
        if not self._is_for(owner, account.ref.bound_to):
            kept = None
        if kept is not account.kept:
            account.record, account.kept = await self._parsed(owner, kept), kept
        record = account.record
        if record is None:
            return None
        if account.token.is_own:
            return record if record.id == await self._own_id(account) else None
        return record if record.client_id == account.token.client.client_id else None

    async def _parsed(self, owner: str, kept: Secret | None) -> TokenRecord | None:
        if kept is None:
            return None
        if not self._has_read:  # the first one loads what reads them
            record, self._has_read = await in_short_turns(parse_token_record, kept.value, owner), True
            return record
        return parse_token_record(kept.value, owner)

    async def _client_secret(self, account: TokenAccount) -> Secret | None:
        owner = client_owner(account.token.server)
        secret = await self._from_vault(owner)
        return secret if self._is_for(owner, account.token.client_bound_to) else None

    def _is_for(self, owner: str, place: str) -> bool:
        """Tell whether a secret is for a place. Raises SecretDelayed while nobody has bound it yet."""
        if self._vault.is_unbound(owner):
            raise SecretDelayed(UNBOUND)
        return self._vault.is_for(owner, place)

    async def _from_vault(self, owner: str) -> Secret | None:
        """Return what the vault has. The store is not asked for what is not there: this is done for each message."""
        return await self._vault.get(owner) if self._vault.has(owner) else None

    async def _own_id(self, account: TokenAccount) -> str:
        """Return the id of the tokens of a client that logs in as itself: another for another client, secret or key."""
        client, secret = account.token.client, await self._client_secret(account)
        key = await self._key_version(client.key_file) if client.key_file else ""
        return self._vault.secret_of(f"{client!r} {secret.version if secret else ''}{key}").version

    async def _key_version(self, path: str) -> str:
        """Return what is another where the file has another key. While it cannot be read, the key before counts."""
        stamp = file_stamp(Path(path))
        known, version = self._keys.get(path, (None, ""))
        if stamp is not None and stamp != known:
            with suppress(OSError):
                octets = await in_file_thread(read_regular_file, path)
                version = self._vault.secret_of(octets.decode("latin-1")).version
                self._keys[path] = (stamp, version)
        return version

    async def _version(self, account: TokenAccount, id_: str) -> str:
        secret = await self._client_secret(account)
        return self._vault.secret_of(f"{id_} {secret.version if secret else ''}").version

    async def _secret(self, account: TokenAccount, record: TokenRecord) -> Secret:
        return Secret(record.access_token, await self._version(account, record.id))

    # renewal

    async def _renewed(self, account: TokenAccount) -> TokenRecord:
        """Return the record after a renewal; who comes meanwhile waits for the same one."""
        if account.renewing is None or account.renewing.done():
            account.renewing = asyncio.create_task(self._renew(account))
            account.renewing.add_done_callback(_look_at)
        return await asyncio.shield(account.renewing)

    async def _renew(self, account: TokenAccount) -> TokenRecord:
        wanting = account.unsaved or account.record
        async with self._slots:
            try:
                async with self._leases.lease(account.ref.owner) as lease:
                    return await self._renew_under_lease(account, wanting, lease)
            except LeasesAway:
                if may_spend_refresh_tokens(account.token.client):
                    raise
                return await self._renew_in_memory(account)

    async def _renew_under_lease(
        self, account: TokenAccount, wanting: TokenRecord | None, lease: RenewalLease
    ) -> TokenRecord:
        """Renew what was found wanting, unless somebody else did meanwhile."""
        before = await self._record(account, latest=True)
        if before and wanting and before.access_token != wanting.access_token and before.is_usable(self._clock()):
            account.trouble = None
            return before
        id_ = before.id if before else await self._own_id(account)
        version = await self._version(account, id_)
        self._check_trouble(account, version)
        if account.unsaved is not None:  # the store did not take the last answer: that first
            return await self._save(account, account.unsaved_over, account.unsaved, lease)
        if not lease.is_ours:  # we were stopped since
            raise SecretDelayed("another process may be renewing the access token")
        try:
            fresh = await self._fresh(account, before, id_)
        except SecretUnavailable as error:
            await self._note(account, before, error, version, lease)
            raise
        record = await self._save(account, before, fresh, lease)
        account.trouble = None
        return record

    async def _renew_in_memory(self, account: TokenAccount) -> TokenRecord:
        """Renew while the store is away, where nothing is spent by that: each process may, for itself."""
        before = await self._record(account)
        id_ = before.id if before else await self._own_id(account)
        version = await self._version(account, id_)
        self._check_trouble(account, version)
        try:
            fresh = await self._fresh(account, before, id_)
        except SecretUnavailable as error:
            self._remember(account, error, version)
            raise
        if account.unsaved is None:
            account.unsaved_over = before
        account.unsaved, account.trouble = fresh, None
        if account.saver is None or account.saver.done():
            account.saver = asyncio.create_task(self._save_later(account))
            account.saver.add_done_callback(_look_at)
        return fresh

    async def _save_later(self, account: TokenAccount) -> None:
        """Save what was renewed in memory, as soon as the store is back."""
        while account.unsaved is not None:
            await asyncio.sleep(_AWAY_SECONDS[0])
            with suppress(SecretDelayed):
                async with self._leases.lease(account.ref.owner) as lease:
                    if account.unsaved is not None:
                        await self._save(account, account.unsaved_over, account.unsaved, lease)

    async def _fresh(self, account: TokenAccount, before: TokenRecord | None, id_: str) -> TokenRecord:
        grant, now = await self._ask(account, before), self._clock()
        return before.renewed(grant, now) if before else new_record(grant, account.token.client.client_id, now, id_)

    def _check_trouble(self, account: TokenAccount, version: str) -> None:
        trouble = account.trouble
        if trouble is not None and trouble.version == version and self._is_on(trouble):
            raise type(trouble.error)(str(trouble.error))

    def _is_on(self, trouble: Trouble) -> bool:
        """Whether the provider is not asked yet; where the clock was set back, it may be."""
        return timedelta() < trouble.until - self._clock() <= timedelta(seconds=_REFUSED_SECONDS)

    async def _ask(self, account: TokenAccount, before: TokenRecord | None) -> Grant:
        client = account.token.client
        kept = await self._client_secret(account)
        secret = kept.value if kept else ""
        provider = await self.provider()
        if account.token.is_own:
            return await provider.as_itself(client, secret, account.token.username)
        if before is None or not before.refresh_token:
            raise TokenRefused("the provider gave nothing to renew the access token with; authorize the account again")
        return await provider.renew(client, secret, before.refresh_token)

    async def provider(self) -> IdentityProvider:
        """Return the way to the providers."""
        if self._provider is None:
            self._provider = await asyncio.to_thread(_new_provider)
        return self._provider

    async def _save(
        self, account: TokenAccount, before: TokenRecord | None, fresh: TokenRecord, lease: RenewalLease
    ) -> TokenRecord:
        """Put a renewed record in the vault. What somebody authorized, renewed or removed meanwhile counts instead."""
        async with account.turn:
            account.unsaved, account.unsaved_over = fresh, before  # until it is durable: that may be worthless already
            now = await self._kept(account, latest=True)
            if _mark(now) == _mark(before):
                ref = account.ref
                await self._vault.put(ref.owner, fresh.as_text, bound_to=ref.bound_to, under=lease.named)
                now = await self._kept(account)  # in memory from now on, should the store be away next time
            account.unsaved = account.unsaved_over = None
        if now is None:
            raise SecretUnavailable("the account is no longer authorized")
        return now

    async def _note(
        self,
        account: TokenAccount,
        before: TokenRecord | None,
        error: SecretUnavailable,
        version: str,
        lease: RenewalLease,
    ) -> None:
        """Remember a failed renewal, and that the provider refused one also over a restart."""
        self._remember(account, error, version)
        if before is not None and not isinstance(error, SecretDelayed) and before.refusal != str(error):
            await self._save(account, before, replace(before, refusal=str(error)), lease)

    def _remember(self, account: TokenAccount, error: SecretUnavailable, version: str) -> None:
        times = account.trouble.times + 1 if account.trouble else 0
        is_away = isinstance(error, SecretDelayed)
        seconds = _AWAY_SECONDS[min(times, len(_AWAY_SECONDS) - 1)] if is_away else _REFUSED_SECONDS
        is_news = account.trouble is None or str(account.trouble.error) != str(error)
        account.trouble = Trouble(error, version, self._clock() + timedelta(seconds=seconds), times)
        if is_news:
            log.warned(f"no access token: {error}", account=f"{account.token.server}/{account.token.username}")

    # ahead of time

    def _keep_fresh(self, account: TokenAccount) -> None:
        if self._renews_ahead() and (account.renewal_ahead is None or account.renewal_ahead.done()):
            account.renewal_ahead = asyncio.create_task(self._renew_ahead(account))
            account.renewal_ahead.add_done_callback(_look_at)

    async def _renew_ahead(self, account: TokenAccount) -> None:
        """Renew before the end, again and again, until the provider refuses it or nobody is authorized any more."""
        while (record := await self._record(account)) is not None and not record.refusal:
            moment = record.renewal_at(self._chance())
            if account.trouble is not None and self._is_on(account.trouble):
                moment = max(moment, account.trouble.until)
            pause = (moment - self._clock()).total_seconds()
            if pause > 0:
                await asyncio.sleep(min(pause, _LONGEST_SLEEP))
                continue
            if not self._renews_ahead():
                return
            try:
                await self._renewed(account)
            except LeasesAway:
                await asyncio.sleep(_AWAY_SECONDS[0])
            except SecretDelayed:
                # The trouble says when to ask again, if it was the provider's.
                await asyncio.sleep(0.0 if account.trouble is not None else _AWAY_SECONDS[0])
            except SecretUnavailable:
                return


def _new_provider() -> IdentityProvider:
    from relay.secrets.oauth.requests import TokenRequests  # noqa: PLC0415  0.3 s and 26 MB, for the few that need it

    return TokenRequests()


def _mark(record: TokenRecord | None) -> tuple[str, str] | None:
    """Return what is another after an authorization or a renewal. A refusal that is noted changes nothing."""
    return (record.id, record.access_token) if record is not None else None


def _look_at(task: asyncio.Task[TokenRecord] | asyncio.Task[None]) -> None:
    """Take note of what a task raised: those who waited may all have gone."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, SecretUnavailable):
        log.broken(f"an access token could not be renewed: {error}")
