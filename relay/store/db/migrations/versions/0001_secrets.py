"""The vault: sealed secrets, and the id of the key they are sealed under."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "secrets",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_secrets")),
    )
    op.create_table(
        "vault",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault")),
        sa.CheckConstraint("id = 1", name=op.f("ck_vault_one_row")),
    )
