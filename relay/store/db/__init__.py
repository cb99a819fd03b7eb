"""The database: engines, the writer, schema, migrations, and what can be wrong with it."""
