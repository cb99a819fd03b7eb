"""An attempt says what it changed in the header; of those that are there already nobody knows."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("changes", sa.Text))
