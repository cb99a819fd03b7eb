"""The tables, as they are after the last migration. The types suit SQLite and PostgreSQL alike.

A change here needs a migration beside it, and HEAD its name; a test builds the schema both ways and compares.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex
from sqlalchemy.types import TypeDecorator

HEAD = "0020"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Return a moment as the database has it: microseconds since 1970. Raises ValueError for one without a zone."""
    if moment.tzinfo is None:
        raise ValueError("a time in the store needs its zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


class Time(TypeDecorator[datetime]):
    """A moment: an aware datetime here, microseconds since 1970 (UTC) in the database, where they sort and compare."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return the microseconds. Raises ValueError for a time without a zone."""
        return None if value is None else microseconds(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the aware datetime in UTC."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Words(TypeDecorator[str]):
    """Text that others wrote. What no database takes is written as "?": lone surrogates, and the NUL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the text that can be written."""
        return None if value is None else value.encode("utf-8", "replace").decode().replace("\0", "?")


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# How often each kind of thing has changed that relays have in memory (`relay.store.db.database`).
bulletin = Table(
    "bulletin",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

# A directory that the store keeps: a row for each entry, by the table of directory.toml that it is in ("" for what
# stands above all tables). `entry` is JSON, and NULL for a while where it is gone; `changed` is the change's number.
directory_entries = Table(
    "directory_entries",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("place", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("entry", Text),
)
Index("ix_directory_entries_changed", directory_entries.c.changed)
Index("ix_directory_entries_place", directory_entries.c.place)

# One row: the number of the last change, and names of the last ones (JSON), which no other change has anywhere.
directory = Table(
    "directory",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("changes", Text, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

# Sealed secrets by owner ("server/acmejets", "profile/support").
secrets = Table(
    "secrets",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("changed", Time, nullable=False),
    # Where it may go (`relay.secrets.secret.SecretRef.bound_to`); NULL where it goes nowhere, or a relay from before
    # this column wrote it.
    Column("bound_to", Text),
)

# One row: of the schema `revision` the relays from the schema `floor` on can use it (`relay.store.db.schema`).
schema_floor = Table(
    "schema_floor",
    metadata,
    Column("revision", Text, primary_key=True),
    Column("floor", Text, nullable=False),
)

# One row: the id of the master key under which all of `secrets` is sealed.
vault = Table(
    "vault",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key_id", Text, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

# One row: by how many seconds the steady clock differs from the time since this `boot` of the machine, and by how many
# the wall clock was ahead of it at `seen` (seconds since 1970 by the wall clock). It was set last at `stepped` (by the
# steady clock; 0: never).
clock = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("boot", Text, nullable=False),
    Column("offset", Float, nullable=False),
    Column("ahead", Float, nullable=False),
    Column("seen", Float, nullable=False),
    Column("stepped", Float, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)


@compiles(CreateIndex, "postgresql")
def _with_condition(create: CreateIndex, compiler: Any, **options: Any) -> str:
    """Say to PostgreSQL the condition that SQLite is told. `postgresql_where` would load its dialect everywhere."""
    conditions = create.element.dialect_options
    conditions["postgresql"]["where"] = conditions["sqlite"]["where"]
    return str(compiler.visit_create_index(create, **options))


@compiles(Text, "postgresql")
def _by_octets(kind: Text, compiler: Any, **options: Any) -> str:
    """Let PostgreSQL compare texts by their octets as SQLite does: a language's order would mix up ids and prefixes."""
    return f'{compiler.visit_TEXT(kind, **options)} COLLATE "C"'


# Of which troubles who was told (`relay.alerts`), and when last; `stage` is how far it had come by then.
troubles = Table(
    "troubles",
    metadata,
    Column("recipient", Text, primary_key=True),
    Column("key", Words, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("title", Words, nullable=False),
    Column("stage", Text, nullable=False),
    Column("since", Time, nullable=False),
    Column("told", Time, nullable=False),
)

# How many messages or recipients (`kind`) an account sent in a stretch of time that begins at `since`.
budgets = Table(
    "budgets",
    metadata,
    Column("server", Text, primary_key=True),
    Column("username", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("since", Time, primary_key=True),
    Column("number", Integer, nullable=False),
)
Index("ix_budgets_kind", budgets.c.kind, budgets.c.server, budgets.c.since)

# How many of the connections that the accounts of a `scope` may have together a process has, and would use. What it has
# is nobody's any more after `until`.
shares = Table(
    "shares",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("held", Integer, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("until", Time, nullable=False),
)
is_lacking = shares.c.wanted > shares.c.held
Index("ix_shares_owner", shares.c.owner)
Index(
    "ix_shares_lacking",
    shares.c.scope,
    shares.c.held,
    shares.c.wanted,
    shares.c.until,
    sqlite_where=is_lacking,
)

# What one process of all does at a time, and which (`relay.store.cluster.leases`). A row stays, so that its fence
# counts on.
duties = Table(
    "duties",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until", Time, nullable=False),
    Column("fence", BigInteger, nullable=False),
)

# The relays that use this store, by the names that people gave them; `id` is the node's own. What it does it says when
# it is `seen`: `workers` processes, `clients` connected, `messages` under way. `drain` is what people want of it.
nodes = Table(
    "nodes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("since", Time, nullable=False),
    Column("seen", Time, nullable=False),
    Column("state", Text, nullable=False),
    Column("workers", Integer, nullable=False),
    Column("clients", Integer, nullable=False),
    Column("messages", Integer, nullable=False),
    Column("drain", Boolean, nullable=False),
)

# Bad logins that relays tell each other (`relay.store.cluster.login_failures`).
failures = Table(
    "failures",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("at", Time, nullable=False),
    Column("door", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("is_failure", Boolean, nullable=False),
)

# The people of the web pages. Their passwords are in the vault.
administrators = Table(
    "administrators",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("created", Time, nullable=False),
)

# Who is signed in to the pages. `digest` is that of the cookie, which stands nowhere; `kind` is admin or agent.
sessions = Table(
    "sessions",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("form_key", Text, nullable=False),
    Column("created", Time, nullable=False),
    Column("seen", Time, nullable=False),
    Column("expires", Time, nullable=False),
)
Index("ix_sessions_name", sessions.c.kind, sessions.c.name)
Index("ix_sessions_expires", sessions.c.expires)

# One-time links that nobody has used yet. The first administrator's has no name.
invitations = Table(
    "invitations",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created", Time, nullable=False),
    Column("expires", Time, nullable=False),
)
Index("ix_invitations_name", invitations.c.kind, invitations.c.name)

# The bearer tokens of the API, by their digests.
tokens = Table(
    "tokens",
    metadata,
    Column("name", Text, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("created", Time, nullable=False),
    Column("used", Time),
)

# Who changed what, when and by which way. `changes` is JSON as text, because it is looked through.
audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Time, nullable=False),
    Column("who", Words, nullable=False),
    Column("role", Text, nullable=False),
    Column("way", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("what", Words, nullable=False),
    Column("changes", Words, nullable=False),
)
Index("ix_audit_at", audit.c.at)
Index("ix_audit_who", audit.c.who, audit.c.id)
Index("ix_audit_what", audit.c.what, audit.c.id)
