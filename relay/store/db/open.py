"""Opening the store that relay.toml names."""

from collections.abc import Mapping

from relay.config.settings import Settings, without_password
from relay.secrets.sources import SecretUnavailable, parse_source, read_source
from relay.store.db.database import Database, open_database
from relay.store.db.errors import StoreError
from relay.store.db.sqlite import FileNumber, SqliteFile


async def open_store(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    has_peers: bool = False,
    is_file: FileNumber | None = None,
    upgrades: bool = True,
) -> Database:
    """Open the store, made or brought to this version's schema where needed. Raises StoreError.

    Without `upgrades` an older one is StoreOlder. `has_peers`: other processes of this relay write to it all the
    time; `is_file`: the one that they have open.
    """
    if settings.database_path is not None:
        file = SqliteFile(settings.database_path, has_peers=has_peers, is_file=is_file)
        return await open_database(file, upgrades=upgrades)
    name = without_password(settings.store)
    password = ""
    if settings.store_password_from:
        try:
            password = await read_source(parse_source(settings.store_password_from), environ, settings.state_dir)
        except SecretUnavailable as error:
            raise StoreError(f"the password of the store {name} cannot be had: {error}") from None
    try:  # the driver is loaded only where it is needed
        from relay.store.db.postgresql import PostgresDatabase  # noqa: PLC0415
    except ImportError as error:  # neither there, nor without libpq
        words = " ".join(str(error).split())
        raise StoreError(
            f"the store {name} needs the package psycopg, which cannot be loaded ({words}); "
            "run: pip install 'relay-submission[postgresql]'"
        ) from None
    return await open_database(PostgresDatabase(settings.store, name, password), upgrades=upgrades)
