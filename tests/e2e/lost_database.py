"""A database that is lost in every way that there is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.peers.postgres import Postgres
from tests.peers.system import LOOPBACK
from tests.peers.wire import Wire

BROKEN = "451 4.3.0 The message cannot be stored now; please try again later"
# docs/cluster.md: no client waits longer for a database of one host that is dead.
BOUND = 40.0


@dataclass(frozen=True)
class Place:
    """A PostgreSQL, and the way to it over the network."""

    server: Postgres
    wire: Wire
    database: str

    @property
    def url(self) -> str:
        return f"postgresql://relay@{LOOPBACK}:{self.wire.port}/{self.database}"


@contextmanager
def stopped(place: Place) -> Iterator[None]:
    """`pg_ctl stop -m immediate`."""
    place.server.stop()
    try:
        yield
    finally:
        place.server.start()


@contextmanager
def frozen(place: Place) -> Iterator[None]:
    """Every process of it is stopped where it stands."""
    with place.server.frozen():
        yield


@contextmanager
def refusing(place: Place) -> Iterator[None]:
    """Its socket is not there, and the connections that there were are ended."""
    socket = place.server.folder / ".s.PGSQL.5432"
    with place.server.connected("postgres") as superuser:
        socket.rename(socket.with_suffix(".gone"))
        superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'relay'")
        try:
            yield
        finally:
            socket.with_suffix(".gone").rename(socket)


@contextmanager
def silent(place: Place) -> Iterator[None]:
    """The network loses everything."""
    place.wire.fall_silent()
    try:
        yield
    finally:
        place.wire.speak()


@contextmanager
def read_only(place: Place) -> Iterator[None]:
    """It can only be read, as a replica."""
    change = "ALTER SYSTEM {} default_transaction_read_only"
    place.server.sql("postgres", change.format("SET") + " = on")
    place.server.sql("postgres", "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        place.server.sql("postgres", change.format("RESET"))
        place.server.sql("postgres", "SELECT pg_reload_conf()")


LOSSES = {"stopped": stopped, "frozen": frozen, "refusing": refusing, "silent": silent, "read-only": read_only}


@contextmanager
def named(loss: str) -> Iterator[None]:
    """Let a failure say at which loss of one life it came."""
    try:
        yield
    except Exception as error:
        error.add_note(f"The database was lost so: {loss}")
        raise
