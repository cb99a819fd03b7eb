"""Where a secret may go. Those that are there already are bound by the first relay that has them and the directory."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
floor = "0014"  # who does not know the column writes secrets without it, which are bound when they are seen


def upgrade() -> None:
    op.add_column("secrets", sa.Column("bound_to", sa.Text))
