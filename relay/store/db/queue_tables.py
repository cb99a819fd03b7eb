"""The tables of the queue and the history: messages, their recipients and attempts, holds, and what webhooks are told.

They are of the same schema as those in `relay.store.db.tables`, where its last migration is named.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    and_,
    false,
)

from relay.store.db.tables import Time, Words, metadata

# The queue and the history at once. `profile` "" is nobody's. `client` and `arrival` are small facts that no query
# looks into. A message waits while it has a `next_attempt` and no lease; it is history when it has `finished`.
messages = Table(
    "messages",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created", Time, nullable=False),
    Column("profile", Text, nullable=False),
    Column("client", JSON, nullable=False),
    Column("arrival", JSON, nullable=False),
    Column("sender", Text),
    Column("sender_key", Text),
    Column("body", Text, nullable=False),
    Column("smtputf8", Boolean, nullable=False),
    Column("require_tls", Boolean, nullable=False, server_default=false()),
    Column("declared_size", BigInteger, nullable=False),
    Column("ret", Text),
    Column("envid", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("message_id", Words, nullable=False),
    Column("subject", Words, nullable=False),
    Column("is_report", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("next_attempt", Time),
    Column("attempts", Integer, nullable=False),
    Column("unknowns", Integer, nullable=False),
    Column("held_since", Time),
    Column("held_seconds", Float, nullable=False),
    Column("held_by", Text),
    Column("warned", Boolean, nullable=False),
    Column("reason", Words, nullable=False),
    Column("server", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("delivered", Time),
    Column("reply", Words, nullable=False),
    Column("finished", Time),
    Column("fence", Integer, nullable=False),
    Column("lease_owner", Text),
    Column("lease_until", Time),
    Column("digest", LargeBinary),  # of envelope and content (`relay.store.queue.contents`); NULL: not known
    Column("clock_ahead", Float, nullable=False, server_default="0"),
)

# What waits, by profile and in the order in which it falls due.
is_waiting = and_(messages.c.next_attempt.is_not(None), messages.c.lease_owner.is_(None))
is_leased = messages.c.lease_owner.is_not(None)
is_held = messages.c.held_by.is_not(None)
is_open = messages.c.finished.is_(None)
is_finished = messages.c.finished.is_not(None)


# The columns of a condition stand in its index too: without them SQLite looks at every row for them.
Index(
    "ix_messages_waiting",
    messages.c.profile,
    messages.c.next_attempt,
    messages.c.id,
    messages.c.lease_owner,
    sqlite_where=is_waiting,
)
Index("ix_messages_leased", messages.c.lease_owner, sqlite_where=is_leased)
Index(
    "ix_messages_held",
    messages.c.held_by,
    messages.c.id,
    messages.c.profile,
    sqlite_where=is_held,
)
# What is in the queue, to be counted by state and to be listed by age, without a look at the history.
Index(
    "ix_messages_open_state",
    messages.c.state,
    messages.c.finished,
    sqlite_where=is_open,
)
Index(
    "ix_messages_open",
    messages.c.created,
    messages.c.id,
    messages.c.profile,
    messages.c.state,
    messages.c.finished,
    sqlite_where=is_open,
)
# The history: the newest of all, of a state, of a sender, of a profile.
Index("ix_messages_created", messages.c.created, messages.c.id)
Index("ix_messages_state", messages.c.state, messages.c.created, messages.c.id)
Index("ix_messages_sender_key", messages.c.sender_key, messages.c.created, messages.c.id)
Index("ix_messages_profile", messages.c.profile, messages.c.created, messages.c.id)
Index("ix_messages_message_id", messages.c.message_id)
Index("ix_messages_finished", messages.c.finished, sqlite_where=is_finished)


def _message_key() -> Column[str]:
    """Return the column by which a row belongs to a message, and goes with it."""
    return Column("message", Text, ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)


# `notify`, `original_type` and `original` are what RCPT said of reports, as it came.
recipients = Table(
    "recipients",
    metadata,
    _message_key(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("address", Text, nullable=False),
    Column("address_key", Text, nullable=False),
    Column("notify", Text),
    Column("original_type", Text),
    Column("original", Text),
    Column("state", Text, nullable=False),
    Column("reply", Words, nullable=False),
    Column("meaning", Text, nullable=False),
    Column("changed", Time),
)
Index("ix_recipients_address_key", recipients.c.address_key, recipients.c.message)

# A message's bytes in pieces, until it is finished. The first ones are the header block without the empty line.
content = Table(
    "content",
    metadata,
    _message_key(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("is_header", Boolean, nullable=False),
    Column("piece", LargeBinary, nullable=False),
)

# `changes` is JSON as text (`relay.store.queue.rows`): what the attempt changed in the header.
attempts = Table(
    "attempts",
    metadata,
    _message_key(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("started", Time, nullable=False),
    Column("server", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("final_dot", Boolean, nullable=False),
    Column("ended", Time),
    Column("reply", Words, nullable=False),
    Column("meaning", Text, nullable=False),
    Column("tls", Text, nullable=False),
    Column("changes", Words),
)

# Which accounts get no mail, and why; `address` "" is the whole account.
holds = Table(
    "holds",
    metadata,
    Column("server", Text, primary_key=True),
    Column("username", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("meaning", Text, nullable=False),
    Column("reason", Words, nullable=False),
    Column("since", Time, nullable=False),
    Column("until", Time),
    Column("probes", Integer, nullable=False),
    Column("next_probe", Time),
    Column("secret_version", Text, nullable=False),
)

# What came back of a message after the server had taken it: once for each recipient, by its number.
returns = Table(
    "returns",
    metadata,
    _message_key(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("found", Time, nullable=False),
    Column("status", Text, nullable=False),
    Column("words", Words, nullable=False),
    Column("reporter", Words, nullable=False),
)

# How far a mailbox is read for returned mail. `name` says whose it is, where and as whom: another mailbox in its place
# is begun anew. `position` is what its reader makes of it.
mailboxes = Table(
    "mailboxes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", Text, nullable=False),
)

# What the webhooks are to be told (`relay.store.queue.outbox`): one row for each event and webhook, in the order of
# time. It waits while it has a `next_attempt`, is told when it is `delivered`, and is held with neither.
outbox = Table(
    "outbox",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", Text, nullable=False),
    Column("webhook", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("at", Time, nullable=False),
    Column("body", Text, nullable=False),
    Column("next_attempt", Time),
    Column("attempts", Integer, nullable=False),
    Column("delivered", Time),
    Column("reason", Words, nullable=False),
)
is_untold = outbox.c.next_attempt.is_not(None)
is_kept_back = and_(outbox.c.next_attempt.is_(None), outbox.c.delivered.is_(None))
Index(
    "ix_outbox_untold",
    outbox.c.webhook,
    outbox.c.next_attempt,
    outbox.c.number,
    outbox.c.message,
    sqlite_where=is_untold,
)
Index(
    "ix_outbox_order",
    outbox.c.webhook,
    outbox.c.message,
    outbox.c.number,
    outbox.c.next_attempt,
    sqlite_where=is_untold,
)
Index(
    "ix_outbox_kept_back",
    outbox.c.webhook,
    outbox.c.at,
    outbox.c.next_attempt,
    outbox.c.delivered,
    sqlite_where=is_kept_back,
)
Index("ix_outbox_at", outbox.c.at)

# How each webhook answers, by its URL: how often it failed since it last took something, and since when.
webhooks = Table(
    "webhooks",
    metadata,
    Column("url", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("since", Time),
    Column("next_attempt", Time),
    Column("reason", Words, nullable=False),
    Column("delivered", Time),
)
