"""The messages of one profile, the newest first: what an agent's own page shows."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_index("ix_messages_profile", "messages", ["profile", "created", "id"])
