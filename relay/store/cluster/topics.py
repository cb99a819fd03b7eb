"""What relays at one database have in memory of it, and so have to be told of: each kind has a number that rises.

The number is raised in the transaction of the change itself, so that nobody sees the one without the other.
"""

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy import Connection, insert, select, update

from relay.store.db.tables import bulletin


class Topic(StrEnum):
    """A kind of thing that a relay has in memory."""

    HOLDS = "holds"
    SECRETS = "secrets"
    FAILURES = "failures"
    DIRECTORY = "directory"


def raise_number(connection: Connection, topic: Topic) -> int:
    """Raise the number of a topic, and return it; others who do the same wait for this transaction to end."""
    raised = update(bulletin).where(bulletin.c.topic == topic).values(number=bulletin.c.number + 1)
    number = connection.execute(raised.returning(bulletin.c.number)).scalar_one_or_none()
    if number is None:
        number = 1
        connection.execute(insert(bulletin).values(topic=topic, number=number))
    return number


def all_numbers(connection: Connection) -> Mapping[str, int]:
    """Return the number of each topic that ever changed."""
    return {row.topic: row.number for row in connection.execute(select(bulletin.c.topic, bulletin.c.number))}
