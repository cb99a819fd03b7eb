"""Bringing a store's schema up to date, and telling a store that is not ours or too new.

Alembic is imported only where there is something to bring: it takes a third of a second and 13 MB. A new store gets the
tables as they are after the last migration; tests compare them with what the migrations make.

While machines are upgraded one after the other, the older relays go on with what the first new one has made of the
schema. A migration that they can live with says so: `floor` in it names the oldest schema whose relay may use what it
makes. The floor stands in the database, since an older relay does not have the file.
"""

from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
    text,
)

from relay.store.db import queue_tables  # noqa: F401 - they are made with the others
from relay.store.db.backend import Backend
from relay.store.db.errors import StoreCorrupt, StoreNewer
from relay.store.db.tables import HEAD, metadata, schema_floor

# Where Alembic keeps the revision.
_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def is_usable(connection: Connection) -> bool:
    """Tell whether the schema is this version's, or a later one that this version can use. Touches nothing."""
    revision = _revision(connection)
    return revision == HEAD or (revision is not None and revision > HEAD and _floor(connection, revision) <= HEAD)


def upgrade(connection: Connection, backend: Backend) -> str | None:
    """Bring the schema to HEAD in the transaction that is open on `connection`; return the copy of what was there.

    The transaction keeps other writers away, so that the copy is what is migrated. "" where none is kept, None where
    nothing was there that had to be.

    Raises StoreNewer for a schema that this version does not know, StoreCorrupt for a database of something else.
    """
    if is_usable(connection):  # another process was faster
        return None
    revision = _revision(connection)
    if revision is not None:
        return _migrate(connection, revision, backend)
    if inspect(connection).get_table_names():
        raise StoreCorrupt(
            f"the store {backend.name} is a database of another program; move it away, or name another store"
        )
    _make(connection)
    return None


def _make(connection: Connection) -> None:
    metadata.create_all(connection)
    _VERSION.create(connection, checkfirst=True)
    connection.execute(insert(_VERSION).values(version_num=HEAD))
    _put_floor(connection, HEAD)  # nobody older has used it


def _migrate(connection: Connection, revision: str, backend: Backend) -> str:
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    folder = Path(__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision: script.module for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision not in known:
        raise StoreNewer(
            f"the store {backend.name} was made by a newer relay (schema {revision}, and this one knows {HEAD}); "
            f"run that version again, or stop relay and {backend.restore_hint()}"
        )
    copy = backend.keep_copy(revision)
    command.upgrade(config, "head")
    _put_floor(connection, getattr(known[HEAD], "floor", HEAD))
    return copy


def _floor(connection: Connection, revision: str) -> str:
    """Return the oldest schema whose relay can use this one; where nobody said so, it is itself."""
    if not inspect(connection).has_table(schema_floor.name):
        return revision
    found = connection.execute(select(schema_floor.c.floor).where(schema_floor.c.revision == revision))
    return found.scalar_one_or_none() or revision


def _put_floor(connection: Connection, floor: str) -> None:
    schema_floor.create(connection, checkfirst=True)  # no migration of its own: it is about all of them
    connection.execute(delete(schema_floor))
    connection.execute(insert(schema_floor).values(revision=HEAD, floor=floor))


def _revision(connection: Connection) -> str | None:
    """Return the schema's revision, where Alembic keeps it; None in a database without one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
