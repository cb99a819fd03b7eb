"""What webhooks are to be told of messages, and how they answer."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
floor = "0014"  # who does not know it tells nobody, and has no webhook in its settings


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("webhook", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("next_attempt", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("delivered", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_outbox")),
    )
    untold = "next_attempt IS NOT NULL"
    kept_back = "next_attempt IS NULL AND delivered IS NULL"
    for name, columns, condition in (
        ("untold", ["webhook", "next_attempt", "number", "message"], untold),
        ("order", ["webhook", "message", "number", "next_attempt"], untold),
        ("kept_back", ["webhook", "at", "next_attempt", "delivered"], kept_back),
    ):
        where = sa.text(condition)
        op.create_index(f"ix_outbox_{name}", "outbox", columns, sqlite_where=where, postgresql_where=where)
    op.create_index("ix_outbox_at", "outbox", ["at"])
    op.create_table(
        "webhooks",
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("since", sa.BigInteger),
        sa.Column("next_attempt", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("delivered", sa.BigInteger),
        sa.PrimaryKeyConstraint("url", name=op.f("pk_webhooks")),
    )
