"""Bringing a store's schema up to date, and telling a store that is not ours or too new.

Alembic is imported only where there is something to bring: it takes a third of a second and 13 MB. A new store gets the
tables as they are after the last migration; tests compare them with what the migrations make.
"""

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, text

from relay.store.backend import Backend
from relay.store.errors import StoreCorrupt, StoreNewer
from relay.store.tables import HEAD, metadata

# Where Alembic keeps the revision.
_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def is_current(connection: Connection) -> bool:
    """Tell whether the schema is this version's. One look; touches nothing."""
    return _revision(connection) == HEAD


def upgrade(connection: Connection, backend: Backend) -> str | None:
    """Bring the schema to HEAD in the transaction that is open on `connection`; return the copy of what was there.

    The transaction keeps other writers away, so that the copy is what is migrated. "" where none is kept, None where
    nothing was there that had to be.

    Raises StoreNewer for a schema that this version does not know, StoreCorrupt for a database of something else.
    """
    revision = _revision(connection)
    if revision == HEAD:  # another process was faster
        return None
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


def _migrate(connection: Connection, revision: str, backend: Backend) -> str:
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    folder = Path(__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision not in known:
        raise StoreNewer(
            f"the store {backend.name} was made by a newer relay (schema {revision}, and this one knows {HEAD}); "
            f"run that version again, or stop relay and {backend.way_back()}"
        )
    copy = backend.keep_copy(revision)
    command.upgrade(config, "head")
    return copy


def _revision(connection: Connection) -> str | None:
    """Return the schema's revision, where Alembic keeps it; None in a database without one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
