"""What Alembic runs for a migration: on the connection that it was given, in the transaction that is open there."""

from alembic import context

from relay.store.db import queue_tables  # noqa: F401 - they are compared with the others
from relay.store.db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
