"""A message has a digest, by which damage shows; those that are there already have none, and are not checked."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
floor = "0014"  # who does not know the column writes messages without it


def upgrade() -> None:
    op.add_column("messages", sa.Column("digest", sa.LargeBinary))
