"""The tables, as they are after the last migration. The types suit SQLite and PostgreSQL alike.

A change here needs a migration beside it, and HEAD its name; a test builds the schema both ways and compares.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, Dialect, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.types import TypeDecorator

HEAD = "0001"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Time(TypeDecorator[datetime]):
    """A moment: an aware datetime here, microseconds since 1970 (UTC) in the database, where they sort and compare."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return the microseconds. Raises ValueError for a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time in the store needs its zone")
        return (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the aware datetime in UTC."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Sealed secrets by owner ("server/acmejets", "profile/support").
secrets = Table(
    "secrets",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("changed", Time, nullable=False),
)

# One row: the id of the master key under which all of `secrets` is sealed.
vault = Table(
    "vault",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key_id", Text, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)
