"""The vault: secrets kept in the store, sealed under the master key, each bound to its owner's name.

The store remembers the id of the key that its secrets are sealed under, and changes both in one transaction. So a
wrong key is noticed before anything is read or written with it, and a change of keys that a crash cut in two is
finished at the next opening: of the key and the next key, the one with the store's id is right.

SECURITY: the store holds owners' names, times and ciphertext. Sealed secrets that change places do not open.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Protocol

from relay import log
from relay.secrets.key_source import KeySource
from relay.secrets.master_key import MasterKey, MasterKeyError
from relay.secrets.seal import SealBroken, seal, unseal
from relay.secrets.secret import Secret
from relay.secrets.sources import SecretUnavailable

_NOT_IN_A_SECRET = frozenset("\r\n\0")


class KeyChanged(Exception):
    """The store is sealed under another key than the caller's; nothing was written."""


class SecretBroken(SecretUnavailable):
    """A stored secret cannot be decrypted. The message names its owner and what to do."""


class SecretRefused(ValueError):
    """A text is no secret that could be used. The message says why, without the text."""


class SecretStore(Protocol):
    """Where sealed secrets are kept. Each method is one transaction."""

    @property
    def removal(self) -> str:
        """The shell command by which a person removes all secrets, and nothing else, where no relay runs."""

    async def key_id(self) -> str | None:
        """Return the id of the key that all secrets are sealed under; None in a store that never had one."""

    async def claim(self, key_id: str) -> str:
        """Make `key_id` the store's where it holds no secrets, and return whose it is now."""

    async def put(
        self, owner: str, sealed: bytes, changed: datetime, key_id: str, *, under: object | None = None
    ) -> None:
        """Keep a sealed secret in place of the owner's old one. Raises KeyChanged unless the store's key is this.

        `under`: a duty that the store knows; where another has it by now, nothing is written.
        """

    async def put_all(self, sealed: Mapping[str, bytes], changed: datetime, key_id: str) -> None:
        """Keep the sealed secrets of several owners, all or none. Raises KeyChanged unless the store's key is this."""

    async def get(self, owner: str) -> bytes | None:
        """Return an owner's sealed secret."""

    async def delete(self, owner: str) -> bool:
        """Remove an owner's secret; False where there was none."""

    async def owners(self) -> Mapping[str, datetime]:
        """Return who has a secret, and since when it is the present one."""

    async def stamp(self) -> object:
        """Return what is another value after any change."""

    async def reseal(self, old_id: str, new_id: str, change: Callable[[str, bytes], bytes]) -> None:
        """Replace every sealed secret by `change(owner, sealed)` and the key id by the new one: all or nothing.

        Raises KeyChanged unless the store's key is the old one.
        """


class Vault:
    """An open vault. `Vault.open` makes one. Calls may overlap; each has its effect before it returns.

    Opened secrets are kept in memory until they change here. A change by another process is seen at `refresh`.
    """

    def __init__(self, store: SecretStore, source: KeySource, key: MasterKey, owners: Mapping[str, datetime]) -> None:
        self._store = store
        self._source = source
        self._key = key
        self._owners = dict(owners)
        self._opened: dict[str, Secret] = {}
        self._stamp: object = None
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, store: SecretStore, source: KeySource) -> "Vault":
        """Open the vault of a store, making the first key if the source can. Raises MasterKeyError."""
        async with source.locked():
            key = await _settle(store, source)
        return cls(store, source, key, await store.owners())

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

    def changed(self, owner: str) -> datetime | None:
        """Return when an owner's secret was last changed here; None where there is none. Cheap."""
        return self._owners.get(owner)

    def secret_of(self, value: str) -> Secret:
        """Return a value from elsewhere as a secret, with the version that the same value always has here."""
        return Secret(value, self._key.digest(value))

    async def put(self, owner: str, value: str, *, under: object | None = None) -> None:
        """Keep an owner's secret, durably. Raises SecretRefused for an empty one or one with a line end or NUL.

        `under`: a duty that the store knows; where another has it by now, nothing is written.
        """
        _check(value)
        async with self._turn:
            changed = datetime.now(UTC)
            # Forgotten first: where the caller is cancelled in the commit, nobody knows what was written.
            self._opened.pop(owner, None)
            try:
                await self._store.put(owner, seal(self._key, owner, value), changed, self._key.id, under=under)
            except KeyChanged:
                await self._reload()
                await self._store.put(owner, seal(self._key, owner, value), changed, self._key.id, under=under)
            self._owners[owner] = changed

    async def put_all(self, values: Mapping[str, str]) -> None:
        """Keep the secrets of many owners, all or none, durably and with one commit. Raises as `put`."""
        for value in values.values():
            _check(value)
        async with self._turn:
            changed = datetime.now(UTC)
            for owner in values:
                self._opened.pop(owner, None)
            try:
                await self._store.put_all(await self._sealed(values), changed, self._key.id)
            except KeyChanged:
                await self._reload()
                await self._store.put_all(await self._sealed(values), changed, self._key.id)
            self._owners |= dict.fromkeys(values, changed)

    async def get(self, owner: str) -> Secret | None:
        """Return an owner's secret. Raises SecretBroken if what is stored does not open for this owner."""
        known = self._opened.get(owner)
        return known if known is not None else await self.latest(owner)

    async def latest(self, owner: str) -> Secret | None:
        """Return an owner's secret as the store has it now: another process may have changed it. Raises as `get`."""
        async with self._turn:
            sealed = await self._store.get(owner)
            self._opened.pop(owner, None)  # not before the store has answered: while it is away, what we know is used
            if sealed is None:
                self._owners.pop(owner, None)
                return None
            secret = self.secret_of(await self._unseal(owner, sealed))
            self._opened[owner] = secret
            return secret

    async def latest_known(self, owner: str) -> Secret | None:
        """Return the same; where the store cannot be asked, what it said last.

        Raises as `get`, and what the store raises where it never said anything.
        """
        known = self._opened.get(owner)
        try:
            return await self.latest(owner)
        except (SecretUnavailable, MasterKeyError):
            raise
        except Exception:
            if known is None:
                raise
            return known

    async def delete(self, owner: str) -> bool:
        """Remove an owner's secret; False where there was none."""
        async with self._turn:
            self._opened.pop(owner, None)
            was_there = await self._store.delete(owner)
            self._owners.pop(owner, None)
            return was_there

    async def refresh(self) -> None:
        """Look again at what the store holds, for changes that another process made; what is as it was stays opened."""
        async with self._turn:
            owners, before = dict(await self._store.owners()), self._owners
            is_same_key = await self._store.key_id() == self._key.id
            same = {owner for owner, changed in owners.items() if is_same_key and before.get(owner) == changed}
            self._owners = owners
            self._opened = {owner: secret for owner, secret in self._opened.items() if owner in same}

    async def follow(self) -> None:
        """Look again where another process changed anything since the last time. Cheap where none did."""
        stamp = await self._store.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            await self.refresh()

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

    async def _sealed(self, values: Mapping[str, str]) -> dict[str, bytes]:
        key = self._key
        return await asyncio.to_thread(lambda: {owner: seal(key, owner, value) for owner, value in values.items()})

    async def _unseal(self, owner: str, sealed: bytes) -> str:
        try:
            return unseal(self._key, owner, sealed)
        except SealBroken:
            # Another process may have rotated; then its key opens it.
            if await self._store.key_id() == self._key.id:
                raise _broken(owner) from None
        await self._reload()
        try:
            return unseal(self._key, owner, await self._store.get(owner) or b"")
        except SealBroken:
            raise _broken(owner) from None

    async def _reload(self) -> None:
        async with self._source.locked():
            self._use(await _settle(self._store, self._source))

    def _use(self, key: MasterKey) -> None:
        self._key = key
        self._opened.clear()  # their versions came from the old key


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
