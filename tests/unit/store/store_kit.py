"""Messages for the store, and ways to look at what it does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from alembic.config import Config

import relay
from relay.directory.client import Client
from relay.mail.address import Address
from relay.mail.content import Content, InMemory, NewBody
from relay.mail.dsn_parameters import Notify, OriginalRecipient, Return
from relay.mail.envelope import Body, Envelope, Recipient
from relay.mail.trace import Arrival
from relay.store.db.backend import Backend
from relay.store.db.database import open_database
from relay.store.db.postgresql import PostgresDatabase
from relay.store.queue.messages import Attempt, NewMessage, Settlement, StoredMessage, StoredRecipient
from relay.store.queue.queue import Queue
from tests.peers.postgres import Postgres

PACKAGE = Path(relay.__file__).parent


def migrations(**attributes: Any) -> Config:
    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(PACKAGE / "store/db/migrations"))
    config.set_main_option("path_separator", "os")
    return config


NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CONTENT = Content(b"Subject: hello\r\n", (b"first\r\nsecond\r\n",))

# Where a test has its store: a file, or a database of PostgreSQL.
StorePlace = Path | Backend

_numbers = count()


def new_message(id_: str = "", *, to: tuple[str, ...] = ("bob@there.example",), **facts: Any) -> StoredMessage:
    """A message that is due at NOW, of a profile "support", with every fact of its envelope set."""
    id_ = id_ or f"m{next(_numbers):08}"
    state = facts.get("state", "queued")
    recipients = tuple(Recipient(Address.parse(address)) for address in to)
    stored = tuple(
        StoredRecipient(number=number, recipient=each, state=state) for number, each in enumerate(recipients)
    )
    message = StoredMessage(
        id=id_,
        created=NOW,
        profile="support",
        client=Client("10.0.0.9", "10.0.0.9", ("*",), is_trusted=True),
        arrival=Arrival("client.example", "10.0.0.9", "relay.example", "ESMTP", id_, NOW),
        envelope=Envelope(Address.parse("support@acmejets.example"), recipients),
        recipients=stored,
        size=CONTENT.size,
        message_id=f"<{id_}@acmejets.example>",
        subject="hello",
        state=state,
        next_attempt=NOW,
    )
    return replace(message, **facts)


def rich_message() -> StoredMessage:
    """A message none of whose facts is the usual one."""
    recipients = (
        Recipient(
            Address.parse("Bob@There.example"),
            Notify("SUCCESS,Delay"),
            OriginalRecipient("rfc822", "bob+2Ball@there.example"),
        ),
        Recipient(Address.parse('"quoted @ local"@xn--bcher-kva.example'), Notify("NEVER")),
        Recipient(Address.parse("jürgen@bücher.example")),
    )
    return StoredMessage(
        id="rich",
        created=NOW,
        profile=None,
        client=Client("crm", "::1", ("support", "group:sales"), is_trusted=False),
        arrival=Arrival("hélo", "::1", "relay.example", "UTF8SMTPSA", "rich", NOW - MINUTE, login="crm"),
        envelope=Envelope(
            Address.parse("Größe+tag@acmejets.example"),
            recipients,
            Body.EIGHT_BIT_MIME,
            smtputf8=True,
            size=123456789012,
            ret=Return.HEADERS,
            envid="QQ+2B314159",
            require_tls=True,
        ),
        recipients=tuple(
            StoredRecipient(number=n, recipient=each, state=f"s{n}", reply=f"450 {n}", meaning=f"m{n}", changed=NOW)
            for n, each in enumerate(recipients)
        ),
        size=12345678901,
        message_id="<rich@acmejets.example>",
        subject="grüße 🎈",
        state="unknown",
        next_attempt=NOW + MINUTE,
        attempts=3,
        unknowns=1,
        held_since=NOW - 2 * MINUTE,
        held_seconds=12.5,
        held_by="acmejets/mailer",
        warned=True,
        reason="temporary: 450 4.0.0 später",
        is_report=True,
        server="acmejets",
        username="mailer@acmejets.example",
        delivered=NOW - 3 * MINUTE,
        reply="250 ok",
        fence=7,
        clock_ahead=3.5,
    )


def new(message: StoredMessage | None = None, *, attempt: Attempt | None = None) -> NewMessage:
    """A message for the queue."""
    return NewMessage(message=message or new_message(), content=CONTENT, attempt=attempt)


def history(message: StoredMessage | None = None) -> NewMessage:
    """A message that is over."""
    return NewMessage(message=replace(message or new_message(state="delivered"), next_attempt=None), content=None)


def attempt(number: int = 1, **facts: Any) -> Attempt:
    """An attempt that is under way."""
    return replace(Attempt(number=number, started=NOW, server="acmejets", username="mailer", phase="resolve"), **facts)


def settlement(message: StoredMessage, **facts: Any) -> Settlement:
    """What leaves a message as it is, and waiting in a minute."""
    same = Settlement(
        id=message.id,
        fence=message.fence,
        recipients=(),
        state="queued",
        next_attempt=NOW + MINUTE,
        reason="",
        unknowns=message.unknowns,
        warned=message.warned,
        held_since=message.held_since,
        held_seconds=message.held_seconds,
        delivered=message.delivered,
        reply=message.reply,
        attempt=None,
        is_finished=False,
    )
    return replace(same, **facts)


def delivered(message: StoredMessage, **facts: Any) -> Settlement:
    """The end of a message, for all of its recipients."""
    done = tuple(replace(each, state="delivered", reply="250 ok", changed=NOW) for each in message.recipients)
    ended = {"recipients": done, "state": "delivered", "next_attempt": None, "is_finished": True, "delivered": NOW}
    return settlement(message, **{**ended, **facts})


def in_postgres(server: Postgres, name: str) -> StorePlace:
    """A store in one of the databases there."""
    return place_of(server.url(name))


def place_of(text: str) -> StorePlace:
    """The place of a store that another process was told of: `name_of` is the other way."""
    return PostgresDatabase(text, text) if text.startswith("postgresql://") else Path(text)


def name_of(place: StorePlace) -> str:
    """A place as one word of a command line."""
    return str(place) if isinstance(place, Path) else place.name


def empty_store(server: Postgres) -> str:
    """A new database with the tables of a store, and nothing in them. Returns its name."""
    name = server.new_database()

    async def make() -> None:
        await (await open_database(in_postgres(server, name))).close()

    asyncio.run(make())
    return name


@asynccontextmanager
async def open_queue(place: StorePlace, owner: str = "this run", new_body: NewBody = InMemory) -> AsyncIterator[Queue]:
    """The queue of a store; its clock stands at NOW."""
    database = await open_database(place)
    queue = Queue(database, owner, clock=lambda: NOW, new_body=new_body)
    try:
        yield queue
    finally:
        await queue.aclose()
        await database.close()
