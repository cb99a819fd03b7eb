"""The vault: secrets kept in the store, sealed under the master key, each bound to its owner's name and to the place
where it may go.

The store remembers the id of the key that its secrets are sealed under, and changes both in one transaction. So a
wrong key is noticed before anything is read or written with it, and a change of keys that a crash cut in two is
finished at the next opening: of the key and the next key, the one with the store's id is right.

Where the store can be away while mail goes on, the vault has a copy of every secret in memory: sealed as in the store,
and opened when it is used.

SECURITY: the store and the copies hold owners' names, times and ciphertext. Sealed secrets that change places do not
open.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType

from relay import log
from relay.secrets.master_key import KeySource, MasterKey, MasterKeyError, SealBroken, seal, unseal
from relay.secrets.secret import Secret
from relay.secrets.secret_store import KeyChanged, Sealed, SecretStore
from relay.secrets.sources import SecretUnavailable

_NOT_IN_A_SECRET = frozenset("\r\n\0")
# The secrets of those who log in at Relay: how a password can be known again, and no password.
_SENT_NOWHERE = ("login/", "admin/")
# So long a store may take to say what is in memory, too: one that is dead may say nothing for half a minute.
_PATIENCE_SECONDS = 2.0


class SecretBroken(SecretUnavailable):
    """A stored secret cannot be decrypted. The message names its owner and what to do."""


class SecretRefused(ValueError):
    """A text is no secret that could be used. The message says why, without the text."""


class Vault:
    """An open vault. `Vault.open` makes one. Calls may overlap; each has its effect before it returns.

    Opened secrets are kept in memory until they change. With `keeps_copies` all others are, too, sealed, from the first
    `follow` on. A change by another process is seen at `follow`.
    """

    def __init__(
        self,
        store: SecretStore,
        source: KeySource,
        key: MasterKey,
        owners: Mapping[str, datetime],
        bound: Mapping[str, str],
        *,
        keeps_copies: bool = False,
    ) -> None:
        self._store = store
        self._source = source
        self._key = key
        self._owners = dict(owners)
        self._bound = dict(bound)
        # What is being bound, until the store has it: nobody waits for that.
        self._binding: dict[str, str] = {}
        self._opened: dict[str, Secret] = {}
        self._keeps_copies = keeps_copies
        self._copies: dict[str, bytes] = {}
        self._has_all = False
        # Whose secret was to be written, and may be another now than the copy.
        self._doubted: set[str] = set()
        self._stamp: object = None
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, store: SecretStore, source: KeySource, *, keeps_copies: bool = False) -> "Vault":
        """Open the vault of a store, making the first key if the source can. Raises MasterKeyError."""
        async with source.locked():
            key = await _settle(store, source)
        return cls(store, source, key, await store.owners(), await store.bound(), keeps_copies=keeps_copies)

    @property
    def key_id(self) -> str:
        """What names the present master key."""
        return self._key.id

    @property
    def key_variables(self) -> frozenset[str]:
        """The environment variables that hold the master key or the next one; empty where it comes from elsewhere."""
        return self._source.variables

    def owners(self) -> Mapping[str, datetime]:
        """Return who has a secret here, and when it was last changed (UTC), by name."""
        return MappingProxyType(dict(sorted(self._owners.items())))

    def has(self, owner: str) -> bool:
        """Tell whether an owner has a secret here. Cheap."""
        return owner in self._owners

    def is_for(self, owner: str, place: str) -> bool:
        """Tell whether an owner has a secret here that may go to a place ("": nowhere). Cheap.

        One that nobody has bound yet goes nowhere until `bind` has said where.
        """
        return owner in self._owners and (not place or self.bound_to(owner) == place)

    @property
    def unbound(self) -> list[str]:
        """Whose secrets nobody has bound to a place: of those that we send somewhere."""
        if len(self._bound) == len(self._owners):
            return []
        return [owner for owner in self._owners if self.is_unbound(owner) and not owner.startswith(_SENT_NOWHERE)]

    def is_unbound(self, owner: str) -> bool:
        """Tell whether there is a secret of an owner that nobody has bound to a place. Cheap."""
        return owner in self._owners and self.bound_to(owner) is None

    def bound_to(self, owner: str) -> str | None:
        """Return where an owner's secret may go; None where it is not bound."""
        return self._bound.get(owner, self._binding.get(owner))

    def changed(self, owner: str) -> datetime | None:
        """Return when an owner's secret was last changed here; None where there is none. Cheap."""
        return self._owners.get(owner)

    def secret_of(self, value: str) -> Secret:
        """Return a value from elsewhere as a secret, with the version that the same value always has here."""
        return Secret(value, self._key.digest(value))

    async def put(self, owner: str, value: str, *, bound_to: str = "", under: object | None = None) -> None:
        """Keep an owner's secret, durably. Raises SecretRefused for an empty one or one with a line end or NUL.

        `bound_to`: where it may go and nowhere else; "" for one that we send nowhere. `under`: a lease that the store
        knows; where another has it by now, nothing is written.
        """
        await self._put(
            {owner: value},
            {owner: bound_to},
            lambda sealed, changed, key_id: self._store.put(owner, sealed[owner], changed, key_id, under=under),
        )

    async def put_all(self, values: Mapping[str, str], bound_to: Mapping[str, str]) -> None:
        """Keep the secrets of many owners, all or none, durably and with one commit. Raises as `put`."""
        await self._put(values, bound_to, self._store.put_all)

    async def bind(self, bound_to: Mapping[str, str], *, again: bool = False) -> None:
        """Say where secrets may go, durably; of those that are bound already only with `again`.

        What was not bound counts for its place from the call on. Where another process was first, its word counts
        afterwards.
        """
        meant = {
            owner: place
            for owner, place in bound_to.items()
            if place and owner in self._owners and (again or self.bound_to(owner) is None)
        }
        if not meant:
            return
        self._binding |= {} if again else meant
        try:
            async with self._turn:
                await self._store.bind(meant, again=again)
            await self.refresh()
        finally:
            for owner in meant:
                self._binding.pop(owner, None)

    async def get(self, owner: str) -> Secret | None:
        """Return an owner's secret. Raises SecretBroken if what is stored does not open for this owner.

        The store is asked for what is not in memory alone, and raises where it cannot be.
        """
        if owner in self._doubted:
            return await (self.latest_known(owner) if owner in self._copies else self.latest(owner))
        known = self._known(owner)
        return known if known is not None else await self.latest(owner)

    async def latest(self, owner: str) -> Secret | None:
        """Return an owner's secret as the store has it now: another process may have changed it. Raises as `get`."""
        async with self._turn:
            kept = await self._store.get(owner)
            # Not before the store has answered: while it is away, what we know is used.
            self._forget([owner])
            if kept is None:
                self._owners.pop(owner, None)
                return None
            self._keep_copies({owner: kept.value})
            self._note_bound(owner, kept.bound_to)
            secret = self.secret_of(await self._unseal(owner, kept.value))
            self._opened[owner] = secret
            return secret

    async def latest_known(self, owner: str) -> Secret | None:
        """Return the same; where the store cannot be asked, or is silent for some seconds, what it said last.

        Raises as `get`, and what the store raises where it never said anything.
        """
        has_answer = self._keeps_copies and (owner in self._copies or self._is_nobody(owner))
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS if has_answer else None):
                return await self.latest(owner)
        except (SecretUnavailable, MasterKeyError):
            raise
        except Exception:
            known = self._known(owner)
            if known is None and not self._is_nobody(owner):
                raise
            return known

    async def delete(self, owner: str) -> bool:
        """Remove an owner's secret; False where there was none."""
        async with self._turn:
            self._doubt([owner])
            was_there = await self._store.delete(owner)
            self._forget([owner])
            self._owners.pop(owner, None)
            return was_there

    async def refresh(self) -> None:
        """Look again at what the store holds, for changes that another process made; what is as it was stays known."""
        async with self._turn:
            if await self._store.key_id() != self._key.id:
                self._opened.clear()
                self._copies.clear()
                with suppress(MasterKeyError):  # whoever needs a secret hears of it
                    await self._reload()
            known, anew = dict(self._owners), self._unsure()
            found = await self._store.difference(known, anew, with_sealed=self._keeps_copies)
            self._forget([*found.changed, *found.gone, *anew, *self._strays()])
            self._owners |= found.changed
            for owner in found.changed:
                self._note_bound(owner, found.bound.get(owner))
            for owner in found.gone:
                del self._owners[owner]
            self._keep_copies(found.sealed)
            is_first, self._has_all = self._keeps_copies and not self._has_all, self._keeps_copies
        if is_first:
            log.changed(what="vault", state="all secrets are in memory, sealed", secrets=len(self._copies))

    async def follow(self) -> None:
        """Look again where another process changed anything since the last time. Cheap where none did."""
        stamp = await self._store.stamp()
        if stamp != self._stamp or self._doubted or (self._keeps_copies and len(self._copies) < len(self._owners)):
            await self.refresh()
            self._stamp = stamp

    async def rotate(self) -> None:
        """Seal every secret under the next key, and make that the key. Raises MasterKeyError, SecretBroken.

        A crash at any moment leaves a vault that opens: `_settle` finds out which of the two keys counts.
        """
        async with self._turn, self._source.locked():
            old = await _settle(self._store, self._source)
            new = self._source.prepare_next()
            await self._store.reseal(old.id, new.id, lambda owner, sealed: _reseal(old, new, owner, sealed))
            self._use(new)
            self._source.promote()
        log.changed(what="master key", key=new.id, old=old.id, secrets=len(self._owners))

    async def _put(
        self,
        values: Mapping[str, str],
        bound_to: Mapping[str, str],
        write: Callable[[Mapping[str, Sealed], datetime, str], Awaitable[None]],
    ) -> None:
        for value in values.values():
            _check(value)
        async with self._turn:
            changed = datetime.now(UTC)
            self._doubt(values)  # first: where the caller is cancelled in the commit, nobody knows what was written
            sealed = await self._sealed(values, bound_to)
            try:
                await write(sealed, changed, self._key.id)
            except KeyChanged:
                await self._reload()
                sealed = await self._sealed(values, bound_to)
                await write(sealed, changed, self._key.id)
            self._forget(values)
            self._owners |= dict.fromkeys(values, changed)
            self._keep_copies({owner: one.value for owner, one in sealed.items()})
            for owner, one in sealed.items():
                self._note_bound(owner, one.bound_to)

    def _known(self, owner: str) -> Secret | None:
        """Return what is in memory; None also for a copy that does not open: `latest` finds out why."""
        known = self._opened.get(owner)
        if known is not None or owner not in self._copies:
            return known
        try:
            secret = self.secret_of(unseal(self._key, owner, self._copies[owner]))
        except SealBroken:
            return None
        if owner not in self._doubted:
            self._opened[owner] = secret
        return secret

    def _is_nobody(self, owner: str) -> bool:
        """Whether the store said when it last said anything that an owner has no secret."""
        return self._has_all and owner not in self._owners and owner not in self._doubted

    def _unsure(self) -> set[str]:
        """Return whose secret is to be read in any case: it is doubted, or there is no copy where one is wanted."""
        return self._doubted | (self._owners.keys() - self._copies.keys() if self._keeps_copies else set())

    def _strays(self) -> set[str]:
        """Return whose secret is in memory, while at the last look it was nobody's."""
        return (self._opened.keys() | self._copies.keys()) - self._owners.keys()

    def _keep_copies(self, sealed: Mapping[str, bytes]) -> None:
        if self._keeps_copies:
            self._copies |= sealed

    def _doubt(self, owners: Iterable[str]) -> None:
        """Use what is known of owners only where the store cannot be asked."""
        for owner in owners:
            self._opened.pop(owner, None)
            self._doubted.add(owner)

    def _forget(self, owners: Iterable[str]) -> None:
        """Know nothing of some secrets, as something newer is known."""
        for owner in owners:
            self._opened.pop(owner, None)
            self._copies.pop(owner, None)
            self._doubted.discard(owner)

    async def _sealed(self, values: Mapping[str, str], bound_to: Mapping[str, str]) -> dict[str, Sealed]:
        key = self._key

        def sealed() -> dict[str, Sealed]:
            return {
                owner: Sealed(seal(key, owner, value), bound_to.get(owner) or None) for owner, value in values.items()
            }

        return sealed() if len(values) == 1 else await asyncio.to_thread(sealed)

    def _note_bound(self, owner: str, bound_to: str | None) -> None:
        if bound_to is None:
            self._bound.pop(owner, None)
        else:
            self._bound[owner] = bound_to

    async def _unseal(self, owner: str, sealed: bytes) -> str:
        try:
            return unseal(self._key, owner, sealed)
        except SealBroken:
            # Another process may have rotated; then its key opens it.
            if await self._store.key_id() == self._key.id:
                raise _broken(owner) from None
        await self._reload()
        try:
            kept = await self._store.get(owner)
            return unseal(self._key, owner, kept.value if kept else b"")
        except SealBroken:
            raise _broken(owner) from None

    async def _reload(self) -> None:
        async with self._source.locked():
            self._use(await _settle(self._store, self._source))

    def _use(self, key: MasterKey) -> None:
        self._key = key
        self._opened.clear()  # their versions came from the old key
        self._copies.clear()
        self._has_all, self._stamp = False, None


def _check(value: str) -> None:
    if not value or not _NOT_IN_A_SECRET.isdisjoint(value):
        raise SecretRefused("a password is one line of text and not empty")


async def _settle(store: SecretStore, source: KeySource) -> MasterKey:
    """Return the key of the store; finish or forget a change of keys that was cut in two. The source is locked.

    Raises MasterKeyError where no key at hand is the store's, unless there is nothing yet that needs the old one.
    """
    stored = await store.key_id()
    key = source.read()
    if key is not None and key.id == stored:
        source.drop_next()
        return key
    successor = source.read_next()
    if successor is not None and successor.id == stored:
        source.promote()
        return successor
    if key is None:
        if stored is not None and await store.owners():
            raise MasterKeyError(
                f"{source.missing()}, and the stored secrets are sealed under it (key {stored}); "
                f"put it back from your backup: nothing else opens them. {_start_over(store)}"
            )
        key = source.create()
        log.changed(what="master key", key=key.id)
    holder = await store.claim(key.id)
    if holder != key.id:
        raise MasterKeyError(
            f"the master key is not the one of this store: the secrets are sealed under key {holder}, "
            f"and the key given is {key.id}; put the right one back from your backup. {_start_over(store)}"
        )
    return key


def _start_over(store: SecretStore) -> str:
    return (
        "If it is lost for good, stop relay, remove the secrets (the mail that waits stays) with "
        f"{store.removal} and set every password again"
    )


def _reseal(old: MasterKey, new: MasterKey, owner: str, sealed: bytes) -> bytes:
    try:
        return seal(new, owner, unseal(old, owner, sealed))
    except SealBroken:
        raise _broken(owner) from None


def _broken(owner: str) -> SecretBroken:
    return SecretBroken(f"the stored secret of {owner} was damaged or moved there from another owner; set it again")
