"""The vault's sealed secrets in the store: the port `relay.secrets.vault.SecretStore`, one transaction a method."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Connection, delete, func, insert, select, type_coerce, update

from relay.secrets.secret_store import Difference, KeyChanged, Sealed
from relay.store.cluster.leases import NamedLease, require
from relay.store.db.database import Database, Topic, all_numbers
from relay.store.db.tables import secrets, vault

# For a person, in a program of theirs: here nothing is removed but one by one.
_REMOVAL = "DELETE FROM secrets"
# How many owners one statement names; the databases have limits.
_BATCH = 500
# Of two machines whose clocks differ the later change may have the earlier time: so far back a look begins.
_OVERLAP = timedelta(minutes=1)
_SECOND = 1_000_000
_TICK = timedelta(microseconds=1)


class SecretTable:
    """The tables `secrets` and `vault`. Raises StoreError, and KeyChanged where the port says so."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def removal(self) -> str:
        """The shell command that removes all secrets."""
        return self._database.command(_REMOVAL)

    async def key_id(self) -> str | None:
        """Return the id of the key that all secrets are sealed under."""
        return await self._database.read(_key_id)

    async def claim(self, key_id: str) -> str:
        """Make `key_id` the store's where it holds no secrets, and return whose it is now."""

        def job(connection: Connection) -> str:
            stored = _key_id(connection)
            if stored is None:
                connection.execute(insert(vault).values(id=1, key_id=key_id))
                return key_id
            if connection.execute(select(secrets.c.owner).limit(1)).first() is not None:
                return stored
            connection.execute(update(vault).values(key_id=key_id))
            return key_id

        return await self._database.write(job)

    async def put(
        self, owner: str, sealed: Sealed, changed: datetime, key_id: str, *, under: object | None = None
    ) -> None:
        """Keep a sealed secret in place of the owner's old one. Raises LeaseLost where `under` is another's by now."""
        assert under is None or isinstance(under, NamedLease)

        def job(connection: Connection) -> None:
            require(connection, under)
            _require_key(connection, key_id)
            values = {"sealed": sealed.value, "bound_to": sealed.bound_to, "changed": changed}
            done = connection.execute(update(secrets).where(secrets.c.owner == owner).values(values))
            if not done.rowcount:
                connection.execute(insert(secrets).values(owner=owner, **values))
            self._announce(connection)

        await self._database.write(job)

    async def put_all(self, sealed: Mapping[str, Sealed], changed: datetime, key_id: str) -> None:
        """Keep the sealed secrets of several owners."""
        owners = list(sealed)

        def job(connection: Connection) -> None:
            _require_key(connection, key_id)
            for start in range(0, len(owners), _BATCH):
                some = owners[start : start + _BATCH]
                connection.execute(delete(secrets).where(secrets.c.owner.in_(some)))
                kept = [(owner, sealed[owner]) for owner in some]
                rows = [
                    {"owner": owner, "sealed": one.value, "bound_to": one.bound_to, "changed": changed}
                    for owner, one in kept
                ]
                connection.execute(insert(secrets), rows)
            self._announce(connection)

        await self._database.write(job)

    async def bind(self, bound_to: Mapping[str, str], *, again: bool) -> None:
        """Say where the secrets of several owners may go. Its time moves on by a microsecond: so all others see it."""

        def job(connection: Connection) -> None:
            for owner, place in bound_to.items():
                meant = secrets.c.owner == owner
                if not again:
                    meant &= secrets.c.bound_to.is_(None)
                found = connection.execute(select(secrets.c.changed).where(meant)).scalar_one_or_none()
                if found is not None:
                    values = {"bound_to": place, "changed": found + _TICK}
                    connection.execute(update(secrets).where(meant).values(values))
            self._announce(connection)

        await self._database.write(job)

    async def bound(self) -> Mapping[str, str]:
        """Return where the secret of each owner may go, if it is bound."""

        def job(connection: Connection) -> Mapping[str, str]:
            found = select(secrets.c.owner, secrets.c.bound_to).where(secrets.c.bound_to.is_not(None))
            return {row.owner: row.bound_to for row in connection.execute(found)}

        return await self._database.read(job)

    async def get(self, owner: str) -> Sealed | None:
        """Return an owner's sealed secret."""

        def job(connection: Connection) -> Sealed | None:
            found = connection.execute(select(secrets.c.sealed, secrets.c.bound_to).where(secrets.c.owner == owner))
            row = found.one_or_none()
            return Sealed(row.sealed, row.bound_to) if row is not None else None

        return await self._database.read(job)

    async def delete(self, owner: str) -> bool:
        """Remove an owner's secret; False where there was none."""

        def job(connection: Connection) -> bool:
            done = connection.execute(delete(secrets).where(secrets.c.owner == owner))
            if done.rowcount:
                self._announce(connection)
            return bool(done.rowcount)

        return await self._database.write(job)

    async def owners(self) -> Mapping[str, datetime]:
        """Return who has a secret, and since when it is the present one."""

        return await self._database.read(_times)

    async def difference(
        self, known: Mapping[str, datetime], anew: Collection[str] = (), *, with_sealed: bool
    ) -> Difference:
        """Return what is another than this. Rows that changed of late are read, and all only where more has changed."""

        def job(connection: Connection) -> Difference:
            now = _times_now(connection, known)
            changed = {owner: moment for owner, moment in now.items() if owner in anew or known.get(owner) != moment}
            gone = frozenset(known.keys() - now.keys())
            sealed, bound = _kept(connection, list(changed))
            return Difference(changed=changed, bound=bound, sealed=sealed if with_sealed else {}, gone=gone)

        return await self._database.read(job)

    async def stamp(self) -> object:
        """Return what is another value after any change. Costs one look through the owners."""

        def job(connection: Connection) -> object:
            number, changed = connection.execute(select(func.count(), func.max(secrets.c.changed))).one()
            # Of two machines whose clocks differ the later change may have the earlier time.
            return number, changed, _key_id(connection), all_numbers(connection).get(Topic.SECRETS, 0)

        return await self._database.read(job)

    async def reseal(self, old_id: str, new_id: str, change: Callable[[str, bytes], bytes]) -> None:
        """Replace every sealed secret and the key id: all or nothing."""

        def job(connection: Connection) -> None:
            _require_key(connection, old_id)
            found = connection.execute(select(secrets.c.owner, secrets.c.sealed))
            for owner, sealed in found.all():
                statement = update(secrets).where(secrets.c.owner == owner).values(sealed=change(owner, sealed))
                connection.execute(statement)
            connection.execute(update(vault).values(key_id=new_id))
            self._announce(connection)

        await self._database.write(job)

    def _announce(self, connection: Connection) -> None:
        self._database.announce(connection, Topic.SECRETS)


def _times_now(connection: Connection, known: Mapping[str, datetime]) -> Mapping[str, datetime]:
    """Return since when the secret of each owner is the present one, where these times were known."""
    if known:
        lately = _times(connection, since=max(known.values()) - _OVERLAP)
        now = {**known, **lately}
        if _sum_of(now.values()) == _sum(connection):
            return now
    return _times(connection)


def _times(connection: Connection, since: datetime | None = None) -> dict[str, datetime]:
    found = select(secrets.c.owner, secrets.c.changed).order_by(secrets.c.owner)
    if since is not None:
        found = found.where(secrets.c.changed >= since)
    return {row.owner: row.changed for row in connection.execute(found)}


def _sum(connection: Connection) -> tuple[int, int]:
    """Return how many secrets there are, and the sum of their times in microseconds: no change leaves both alone."""
    moment = type_coerce(secrets.c.changed, BigInteger)
    # Apart, as SQLite's numbers end before the sum of some thousands.
    parts = select(func.count(), func.sum(moment // _SECOND), func.sum(moment % _SECOND))
    number, seconds, rest = connection.execute(parts).one()
    return number, int(seconds or 0) * _SECOND + int(rest or 0)


def _sum_of(moments: Collection[datetime]) -> tuple[int, int]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return len(moments), sum((moment - epoch for moment in moments), timedelta()) // timedelta(microseconds=1)


def _kept(connection: Connection, owners: list[str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the sealed secrets of owners, and where those that are bound may go."""
    sealed: dict[str, bytes] = {}
    bound: dict[str, str] = {}
    for start in range(0, len(owners), _BATCH):
        some = secrets.c.owner.in_(owners[start : start + _BATCH])
        for row in connection.execute(select(secrets.c.owner, secrets.c.sealed, secrets.c.bound_to).where(some)):
            sealed[row.owner] = row.sealed
            if row.bound_to is not None:
                bound[row.owner] = row.bound_to
    return sealed, bound


def _key_id(connection: Connection) -> str | None:
    return connection.execute(select(vault.c.key_id)).scalar_one_or_none()


def _require_key(connection: Connection, key_id: str) -> None:
    if _key_id(connection) != key_id:
        raise KeyChanged
