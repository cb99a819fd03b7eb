"""Bad logins, as relays at one database tell them each other."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "failures",
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("door", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("is_failure", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("number", "line", name=op.f("pk_failures")),
    )
