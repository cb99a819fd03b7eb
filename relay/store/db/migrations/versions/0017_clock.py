"""How far the wall clock has been set, and how far it had been when a message came."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
floor = "0014"  # who does not know the column leaves it at its default, and asks for no clock


def upgrade() -> None:
    op.create_table(
        "clock",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("boot", sa.Text, nullable=False),
        sa.Column("offset", sa.Float, nullable=False),
        sa.Column("ahead", sa.Float, nullable=False),
        sa.Column("seen", sa.Float, nullable=False),
        sa.Column("stepped", sa.Float, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_clock_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clock")),
    )
    op.add_column("messages", sa.Column("clock_ahead", sa.Float, nullable=False, server_default="0"))
