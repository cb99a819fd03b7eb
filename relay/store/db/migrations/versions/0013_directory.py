"""A directory that the store keeps."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
floor = "0012"  # tables that nobody older asks for


def upgrade() -> None:
    op.create_table(
        "directory_entries",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.Column("entry", sa.Text),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_directory_entries")),
    )
    op.create_index("ix_directory_entries_changed", "directory_entries", ["changed"])
    op.create_index("ix_directory_entries_place", "directory_entries", ["place"])
    op.create_table(
        "directory",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("changes", sa.Text, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_directory_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_directory")),
    )
