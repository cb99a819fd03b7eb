"""The queue and the history: messages with recipients, content and attempts, and the holds of accounts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _messages()
    _indexes()
    _parts_of_messages()
    op.create_table(
        "holds",
        sa.Column("server", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("meaning", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("probes", sa.Integer, nullable=False),
        sa.Column("next_probe", sa.BigInteger),
        sa.Column("secret_version", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("server", "username", "address", name=op.f("pk_holds")),
    )


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("client", sa.JSON, nullable=False),
        sa.Column("arrival", sa.JSON, nullable=False),
        sa.Column("sender", sa.Text),
        sa.Column("sender_key", sa.Text),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("smtputf8", sa.Boolean, nullable=False),
        sa.Column("declared_size", sa.BigInteger, nullable=False),
        sa.Column("ret", sa.Text),
        sa.Column("envid", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("is_report", sa.Boolean, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("next_attempt", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("unknowns", sa.Integer, nullable=False),
        sa.Column("held_since", sa.BigInteger),
        sa.Column("held_seconds", sa.Float, nullable=False),
        sa.Column("held_by", sa.Text),
        sa.Column("warned", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("server", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("delivered", sa.BigInteger),
        sa.Column("reply", sa.Text, nullable=False),
        sa.Column("finished", sa.BigInteger),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_until", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )


def _indexes() -> None:
    partial = {
        "waiting": (
            ["profile", "next_attempt", "id", "lease_owner"],
            "next_attempt IS NOT NULL AND lease_owner IS NULL",
        ),
        "leased": (["lease_owner"], "lease_owner IS NOT NULL"),
        "held": (["held_by", "id", "profile"], "held_by IS NOT NULL"),
        "open": (["created", "id", "profile", "state", "finished"], "finished IS NULL"),
        "open_state": (["state", "finished"], "finished IS NULL"),
        "finished": (["finished"], "finished IS NOT NULL"),
    }
    for name, (columns, where) in partial.items():
        condition = sa.text(where)
        op.create_index(
            op.f(f"ix_messages_{name}"), "messages", columns, sqlite_where=condition, postgresql_where=condition
        )
    op.create_index(op.f("ix_messages_created"), "messages", ["created", "id"])
    op.create_index(op.f("ix_messages_state"), "messages", ["state", "created", "id"])
    op.create_index(op.f("ix_messages_sender_key"), "messages", ["sender_key", "created", "id"])
    op.create_index(op.f("ix_messages_message_id"), "messages", ["message_id"])


def _parts_of_messages() -> None:
    op.create_table(
        "recipients",
        *_key_in_message("recipients"),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("address_key", sa.Text, nullable=False),
        sa.Column("notify", sa.Text),
        sa.Column("original_type", sa.Text),
        sa.Column("original", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reply", sa.Text, nullable=False),
        sa.Column("meaning", sa.Text, nullable=False),
        sa.Column("changed", sa.BigInteger),
    )
    op.create_index(op.f("ix_recipients_address_key"), "recipients", ["address_key", "message"])
    op.create_table(
        "content",
        *_key_in_message("content"),
        sa.Column("is_header", sa.Boolean, nullable=False),
        sa.Column("piece", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "attempts",
        *_key_in_message("attempts"),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.Column("server", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("final_dot", sa.Boolean, nullable=False),
        sa.Column("ended", sa.BigInteger),
        sa.Column("reply", sa.Text, nullable=False),
        sa.Column("meaning", sa.Text, nullable=False),
        sa.Column("tls", sa.Text, nullable=False),
    )


def _key_in_message(table: str) -> tuple[sa.schema.SchemaItem, ...]:
    """Return what every part of a message has: its key, and that it goes with its message."""
    return (
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("message", "number", name=op.f(f"pk_{table}")),
        sa.ForeignKeyConstraint(["message"], ["messages.id"], name=op.f(f"fk_{table}_message"), ondelete="CASCADE"),
    )
