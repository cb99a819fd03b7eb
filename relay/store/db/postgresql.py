"""The store in PostgreSQL, for several machines, and what can be wrong with it, as sentences for people.

The only file that knows the driver, and imported only where the settings name such a store: psycopg comes with the
extra `relay-submission[postgresql]`.

What a commit promises, PostgreSQL decides (synchronous_commit); we only see that it is not off. A connection that is
lost takes its transaction with it, and the job is run once more on a new one; only where the answer to a commit is
lost, nobody knows what became of it. With several hosts in the URL the one that can be written is found anew with each
connection.

Nobody waits long for a database that is dead: one that says nothing for 25 seconds is left, and a connection that
could not be made is not tried again for a second, so that all who wait for one hear of it together.

DIAGNOSTICS: a StoreError by the code (https://www.postgresql.org/docs/15/errcodes-appendix.html). The database's own
words stand in brackets at the end, on one line; statements and their values are in no message.

SECURITY: the password is given to the driver apart from the URL, and no sentence has it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from shlex import quote
from threading import Lock
from time import monotonic
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import StrDumper
from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    QueuePool,
    cast,
    create_engine,
    event,
    extract,
    func,
    literal,
    select,
    text,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError, OperationalError

from relay.store.db.backend import Moment, Use
from relay.store.db.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreReadOnly, StoreUnreachable
from relay.store.db.tables import Time
from relay.store.queue.claims import DATABASE_NOW

# Held by whoever changes the schema, and by whoever takes a turn. The numbers only have to be ours: "relay" and 1, 2.
_SCHEMA_LOCK = 0x72656C617901
_TURN_LOCK = 0x72656C617902
_CHANNEL = "relay"
# A dead peer is noticed within 25 seconds, and no connection is waited for much longer. The URL may say otherwise.
# A peer that lives and whose PostgreSQL is stopped, only we notice.
_DEFAULTS: Mapping[str, str] = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
    "target_session_attrs": "read-write",
    "fallback_application_name": "relay",
}
_SILENCE_SECONDS = 25.0
_INTERVAL_SECONDS = 0.1  # as the driver has it
_REFUSED_SECONDS = 1.0
# Milliseconds. No statement of ours takes long; one that waits for a lock or a dead client must not stop all the rest.
# A statement may last longer than we are silent: where a commit waits for a replica, PostgreSQL would call it done when
# this is over. A transaction whose machine was stopped in the middle of it ends before those who wait for it give up.
_TIMEOUTS = {"statement_timeout": "60000", "lock_timeout": "10000", "idle_in_transaction_session_timeout": "5000"}
# A migration may rewrite a table.
_UPGRADE_TIMEOUTS = {"statement_timeout": "0", "lock_timeout": "60000", "idle_in_transaction_session_timeout": "0"}
_DURABLE = "set_config('synchronous_commit', 'on', false)"
_CLOCK = select(type_coerce(cast(func.floor(extract("epoch", func.clock_timestamp()) * 1_000_000), BigInteger), Time))
_STARTED = select(func.pg_postmaster_start_time())


class PostgresDatabase:
    """A database: the port `relay.store.db.backend.Backend`.

    `name` is its URL as people may see it. Without `password` the URL, PGPASSWORD or ~/.pgpass has it.
    """

    def __init__(self, url: str, name: str, password: str = "") -> None:
        """Read the URL. Raises StoreError."""
        self._name = name
        try:
            parts = conninfo_to_dict(url)
        except psycopg.ProgrammingError:  # its words may have a piece of a password
            raise StoreError(
                f"the store {name} is no URL of PostgreSQL; write postgresql://user@host/db, and % as %25"
            ) from None
        self._arguments = {**_DEFAULTS, **parts, **({"password": password} if password else {})}
        self._refusal = _Refusal()

    @property
    def name(self) -> str:
        """The URL without a password."""
        return self._name

    @property
    def is_shared(self) -> bool:
        """It is there for several machines."""
        return True

    def prepare(self) -> None:
        """The database is made by who looks after PostgreSQL, with a user of ours."""

    def engine(self, use: Use, connections: int) -> Engine:
        """Return an engine."""
        engine = create_engine(
            "postgresql+psycopg://",
            creator=partial(self._connect, use),
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            hide_parameters=True,  # no value of a row in an exception
        )
        event.listen(engine, "connect", _set_up(use))
        return engine

    def named_faults(self) -> AbstractContextManager[None]:
        """Turn what the driver raises into a StoreError about the database."""
        return named_faults(self._name)

    def may_repeat(self, error: Exception) -> bool:
        """Whether the connection was lost, or another machine came in between."""
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, DBAPIError):
            cause = cause.__cause__
        return cause is not None and not isinstance(cause.orig, Silent) and _is_passing(cause)

    def turn(self) -> AbstractContextManager[None]:
        """Nobody waits: the database locks rows, not all of it."""
        return nullcontext()

    def lock_out_others(self, connection: Connection) -> None:
        """Let all others who call this wait."""
        connection.execute(_lock(_TURN_LOCK))

    def notify_others(self, connection: Connection) -> None:
        """Let all who listen be called; many calls of one transaction are one."""
        connection.execute(func.pg_notify(_CHANNEL, "").select())

    async def listen(self, notified: Callable[[], None]) -> None:
        """Listen on a connection of its own. Raises StoreError."""
        try:
            connection = await psycopg.AsyncConnection.connect(**self._arguments, autocommit=True)  # type: ignore[arg-type]
            async with connection:
                await connection.execute(f"LISTEN {_CHANNEL}")
                notified()
                async for _ in connection.notifies():
                    notified()
        except psycopg.OperationalError as error:
            raise StoreError(f"the store {self._name} calls nobody ({_one_line(error)})") from error

    def lock_schema(self, connection: Connection) -> None:
        """Keep all others from changing the schema. Raises StoreError for a database that cannot have every letter."""
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding != "UTF8":
            raise StoreError(
                f"the store {self._name} has the encoding {encoding}; make the database with ENCODING 'UTF8'"
            )
        connection.execute(_lock(_SCHEMA_LOCK))

    def keep_copy(self, revision: str) -> str:  # noqa: ARG002
        """Return "": to copy a database is the business of who looks after it, and a migration is one transaction."""
        return ""

    def restore_hint(self) -> str:
        """Say how to come back to before a migration."""
        return "put back a dump from before it"

    def check(self) -> None:
        """Nothing: PostgreSQL looks after its own files, and says so where one is damaged."""

    def inspect(self) -> list[str]:
        """Return nothing: pg_amcheck and checksums are for who looks after PostgreSQL."""
        return []

    def look(self) -> None:
        """Nothing: only what is asked of it tells."""

    def look_before_commit(self) -> None:
        """Nothing: PostgreSQL looks after its own files."""

    def look_after_commit(self) -> None:
        """Nothing either."""

    def copy_to(self, connection: Any, target: Path) -> None:  # noqa: ARG002
        """Raise StoreError: its own tools copy it."""
        raise StoreError(f"the store {self._name} is copied by the tools of PostgreSQL: pg_dump --format=custom")

    def close(self) -> None:
        """Nothing is held."""

    def shrink(self, pages: int) -> int:  # noqa: ARG002
        """Return 0: autovacuum does that."""
        return 0

    def after(self, seconds: timedelta, now: datetime) -> Moment:  # noqa: ARG002
        """Return the moment so long after the transaction began, by the clock of the database."""
        return type_coerce(DATABASE_NOW + literal(seconds // timedelta(microseconds=1), BigInteger), Time)

    def now(self, connection: Connection, now: datetime) -> datetime:  # noqa: ARG002
        """Return what its clock says at this moment: a transaction may have waited for its turn since it began."""
        return connection.execute(_CLOCK).scalar_one()

    def instance(self, connection: Connection) -> str:
        """Return when it started: a replica that took its place did so at another moment."""
        return str(connection.execute(_STARTED).scalar_one())

    def command(self, statement: str) -> str:
        """Return the command; Debian has the program in the package postgresql-client."""
        return f"psql {quote(self._name.replace(':***@', '@'))} -c '{statement}'"

    def _connect(self, use: Use) -> Any:
        self._refusal.check()
        try:
            connection = _Connection.connect(**self._arguments)  # type: ignore[arg-type]
        except psycopg.OperationalError as error:
            self._refusal.note(error)
            raise
        self._refusal.forget()
        connection.is_patient = use is Use.UPGRADE
        connection.adapters.register_dumper(str, _Text)
        return connection


class Silent(psycopg.OperationalError):
    """The server said nothing for too long, and the connection is closed."""


class _Connection(psycopg.Connection[Any]):
    """A connection that waits for no answer longer than `_SILENCE_SECONDS`, unless it is patient."""

    is_patient = False

    def wait(self, gen: PQGen[RV], interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> RV:
        """Wait for an answer. Raises Silent."""
        if self.is_patient or timeout is not None:
            return super().wait(gen, interval, timeout)
        began = monotonic()
        try:
            return super().wait(gen, interval, _SILENCE_SECONDS)
        except psycopg.OperationalError as error:
            if error.sqlstate or monotonic() - began < _SILENCE_SECONDS:
                raise
            self.pgconn.finish()  # nobody knows what it would say next
            raise Silent(f"no answer for {_SILENCE_SECONDS:.0f} seconds") from None


class _Refusal:
    """What a connection that could not be made met last, for all threads. Counts for a second."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._words = ""
        self._until = 0.0

    def check(self) -> None:
        """Raise what the last one met, where that was a moment ago."""
        with self._lock:
            if monotonic() < self._until:
                raise psycopg.OperationalError(self._words)

    def note(self, error: psycopg.OperationalError) -> None:
        """Remember what one met."""
        with self._lock:
            self._words, self._until = str(error), monotonic() + _REFUSED_SECONDS

    def forget(self) -> None:
        """One could be made."""
        with self._lock:
            self._until = 0.0


class _Text(StrDumper):
    """Text without a NUL, which no column takes: what is searched for with one is written like `Words`."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "?") if "\0" in obj else obj)


def _lock(number: int) -> Any:
    return func.pg_advisory_xact_lock(number).select()


def _set_up(use: Use) -> Callable[[Any, object], None]:
    timeouts = _UPGRADE_TIMEOUTS if use is Use.UPGRADE else _TIMEOUTS
    settings = [f"set_config('{name}', '{value}', false)" for name, value in timeouts.items()]
    # Only what is less than a promise is changed: some wait for a replica too.
    settings.append(f"CASE current_setting('synchronous_commit') WHEN 'off' THEN {_DURABLE} END")
    statement = f"SELECT {', '.join(settings)}"

    def set_up(connection: Any, _: object) -> None:
        try:
            connection.autocommit = True
            connection.execute(statement)
            connection.autocommit = False
            if use is Use.READ:  # one state for all the statements of a job
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True
        except BaseException:  # the pool does not know it yet and would not close it
            connection.close()
            raise

    return set_up


_Kind = tuple[type[StoreError], str]
_AWAY = (StoreUnreachable, "cannot be reached; check that PostgreSQL runs there and lets this machine in")
_LATE = (StoreBusy, "did not answer in time; look at what else it does, and try again")
_LOCKED = (StoreBusy, "is busy with what others write; try again")
_FORBIDDEN = (StoreError, "refuses what relay does; let its user own the tables, or grant it all on them")
_MEANINGS: dict[str, _Kind] = {
    "25006": (
        StoreReadOnly,
        "can only be read just now: it is a replica; name all hosts, or wait until one of them is promoted",
    ),
    "28000": (StoreError, "does not let relay's user in; check pg_hba.conf and the user"),
    "28P01": (StoreError, "refuses the password of relay's user; check the URL, PGPASSWORD or store_password_from"),
    "3D000": (StoreError, "does not exist; make it: createdb --owner USER --encoding UTF8 --template template0 NAME"),
    "40001": _LOCKED,
    "40P01": _LOCKED,
    "42501": _FORBIDDEN,
    "53100": (StoreFull, "cannot grow: the disk of PostgreSQL is full; make room on it"),
    "53200": (StoreError, "has no memory left; look at what else runs there"),
    "53300": (StoreBusy, "has no connection left; raise max_connections of PostgreSQL (a relay takes seven)"),
    "55P03": _LOCKED,
    "57014": _LATE,
    "57P01": _AWAY,
    "57P02": _AWAY,
    "57P03": _AWAY,
    "58030": (StoreError, "cannot read or write its files; check the disk of PostgreSQL"),
    "XX001": (StoreCorrupt, "is damaged; stop relay and put back a backup of it"),
    "XX002": (StoreCorrupt, "is damaged; stop relay and run REINDEX, or put back a backup of it"),
}
# Another machine was in between, or wrote the same row first: the next run sees what it wrote.
_PASSING = frozenset({"40001", "40P01", "23505"})


@contextmanager
def named_faults(name: str) -> Iterator[None]:
    """Turn what the driver raises into a StoreError about the store `name`; what we did wrong ourselves stays."""
    try:
        yield
    except DBAPIError as error:
        meaning = _meaning(error)
        if meaning is None:
            raise
        kind, words = meaning
        raise kind(f"the store {name} {words} ({_one_line(error.orig)})") from error


def _is_passing(error: DBAPIError) -> bool:
    """Whether what was undone may work at once: on a new connection, or after what another machine did."""
    return error.connection_invalidated or _code(error) in _PASSING


def _one_line(error: BaseException | None) -> str:
    """Return the words of an error on one line, without the driver's guesses, which stand behind a tab."""
    said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    return " ".join(" ".join(line for line in said.splitlines() if not line.startswith("\t")).split())


def _code(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _meaning(error: DBAPIError) -> _Kind | None:
    code = _code(error)
    if code in _MEANINGS:
        return _MEANINGS[code]
    # Without a code no server said it: the connection could not be made, or was lost.
    is_away = error.connection_invalidated or code.startswith("08") or (not code and _is_operational(error))
    return _said_while_connecting(error) if is_away else None


def _said_while_connecting(error: DBAPIError) -> _Kind:
    """Return what a refused connection means. The driver gives its code to nobody, only the server's words."""
    words = str(error.orig)
    hints = {
        "password authentication failed": "28P01",
        "no password supplied": "28P01",
        "no pg_hba.conf entry": "28000",
        'role "': "28000",
        "does not exist": "3D000",
        "too many": "53300",
        "remaining connection slots": "53300",
        "session is read-only": "25006",
    }
    return next((_MEANINGS[code] for hint, code in hints.items() if hint in words), _AWAY)


def _is_operational(error: DBAPIError) -> bool:
    return isinstance(error, OperationalError)  # also of a kind of its own, such as a connection that took too long
