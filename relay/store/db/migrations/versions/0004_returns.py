"""What later came back of messages that were sent, and how far each mailbox is read for it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "returns",
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("found", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("reporter", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("message", "number", name=op.f("pk_returns")),
        sa.ForeignKeyConstraint(["message"], ["messages.id"], name=op.f("fk_returns_message"), ondelete="CASCADE"),
    )
    op.create_table(
        "mailboxes",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("position", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_mailboxes")),
    )
