"""Of which troubles who was told."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
floor = "0014"  # who does not know it tells nobody


def upgrade() -> None:
    op.create_table(
        "troubles",
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("told", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("recipient", "key", name=op.f("pk_troubles")),
    )
