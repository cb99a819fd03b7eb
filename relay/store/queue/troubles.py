"""Of which troubles who was told, so that a start of the relay tells nobody again (`relay.alerts`)."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from relay.store.db.database import Database
from relay.store.db.tables import troubles

_MOST_KEYS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldTrouble:
    """A trouble of which a recipient was told, and last at `told`; `since` is when that was first."""

    recipient: str
    key: str
    kind: str
    title: str
    stage: str
    since: datetime
    told: datetime


class TroubleTable:
    """The table `troubles`, one transaction a method. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[ToldTrouble]:
        """Return everything of which anybody was told and that is not over yet, the oldest first."""

        def job(connection: Connection) -> list[ToldTrouble]:
            found = connection.execute(select(troubles).order_by(troubles.c.since, troubles.c.key))
            return [ToldTrouble(**row._mapping) for row in found]

        return await self._database.read(job)

    async def put(self, recipient: str, told: Sequence[ToldTrouble], over: Collection[str]) -> None:
        """A recipient was told of these, and that these keys are over."""
        keys = [*over, *(one.key for one in told)]

        def job(connection: Connection) -> None:
            for start in range(0, len(keys), _MOST_KEYS):
                some = keys[start : start + _MOST_KEYS]
                same = (troubles.c.recipient == recipient, troubles.c.key.in_(some))
                connection.execute(delete(troubles).where(*same))
            if told:
                connection.execute(insert(troubles), [asdict(one) for one in told])

        await self._database.write_beside(job)

    async def keep(self, recipients: Collection[str]) -> None:
        """Forget what others than these were told."""
        gone = delete(troubles).where(troubles.c.recipient.not_in(list(recipients)))
        await self._database.write_beside(lambda c: c.execute(gone))
