"""What each process has of the connections that an account may have; what all have spent is found by its time."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "shares",
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("held", sa.Integer, nullable=False),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("scope", "owner", name=op.f("pk_shares")),
    )
    op.create_index("ix_budgets_kind", "budgets", ["kind", "server", "since"])
    op.create_index("ix_shares_owner", "shares", ["owner"])
    condition = sa.text("wanted > held")
    op.create_index(
        "ix_shares_lacking",
        "shares",
        ["scope", "held", "wanted", "until"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
