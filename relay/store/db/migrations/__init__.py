"""The store's schema, step by step, for Alembic. A store that is up to date never imports what is in here."""
