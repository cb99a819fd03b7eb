"""What is on disk: tables, migrations and queries. SQLAlchemy stays in here."""
