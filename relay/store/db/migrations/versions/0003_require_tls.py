"""A message says whether it may only travel by TLS (REQUIRETLS, RFC 8689); what is there already does not."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("messages", sa.Column("require_tls", sa.Boolean, nullable=False, server_default=sa.false()))
