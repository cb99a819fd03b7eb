"""The port of the vault: where sealed secrets are kept."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


class KeyChanged(Exception):
    """The store is sealed under another key than the caller's; nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What is another in the store than somebody knows, all of one moment.

    `changed`: whose secret is new or another, and since when. `bound`: of those, where each may go, if it is bound.
    `sealed`: those secrets, where they were asked for. `gone`: who has none any more.
    """

    changed: Mapping[str, datetime]
    bound: Mapping[str, str] = field(default_factory=dict)
    sealed: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    gone: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret as it is kept, and where it may go; None where nobody has said that yet."""

    value: bytes = field(repr=False)
    bound_to: str | None = None


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
        self, owner: str, sealed: Sealed, changed: datetime, key_id: str, *, under: object | None = None
    ) -> None:
        """Keep a sealed secret in place of the owner's old one. Raises KeyChanged unless the store's key is this.

        `under`: a lease that the store knows; where another has it by now, nothing is written.
        """

    async def put_all(self, sealed: Mapping[str, Sealed], changed: datetime, key_id: str) -> None:
        """Keep the sealed secrets of several owners, all or none. Raises KeyChanged unless the store's key is this."""

    async def bind(self, bound_to: Mapping[str, str], *, again: bool) -> None:
        """Say where the secrets of several owners may go; of those that are bound already only with `again`."""

    async def bound(self) -> Mapping[str, str]:
        """Return where the secret of each owner may go; without those that are bound to nothing."""

    async def get(self, owner: str) -> Sealed | None:
        """Return an owner's sealed secret."""

    async def delete(self, owner: str) -> bool:
        """Remove an owner's secret; False where there was none."""

    async def owners(self) -> Mapping[str, datetime]:
        """Return who has a secret, and since when it is the present one."""

    async def difference(
        self, known: Mapping[str, datetime], anew: Collection[str] = (), *, with_sealed: bool
    ) -> Difference:
        """Return what is another than this, as `owners` would say it. Cheap where little is.

        Of the owners in `anew` it is said in any case.
        """

    async def stamp(self) -> object:
        """Return what is another value after any change."""

    async def reseal(self, old_id: str, new_id: str, change: Callable[[str, bytes], bytes]) -> None:
        """Replace every sealed secret by `change(owner, sealed)` and the key id by the new one: all or nothing.

        Raises KeyChanged unless the store's key is the old one.
        """
