"""A PostgreSQL and its replica."""

from tests.peers.postgres import Postgres
from tests.peers.short_windows import short_windows
from tests.peers.system import wait_until

REPLICA = "second"
# From the promotion on. Nobody is told of it: connections are tried once in five seconds or more often. A busy machine
# takes longer.
SECONDS = 60.0
# How long a database may say nothing, in the place of 25 seconds.
SHORT = short_windows(silence=6)


def url_of(database: str, *servers: Postgres) -> str:
    hosts, ports = ",".join(str(server.folder) for server in servers), ",".join("5432" for _ in servers)
    return f"postgresql://relay@/{database}?host={hosts}&port={ports}&target_session_attrs=read-write"


def wait_for_replica(primary: Postgres, state: str) -> None:
    known = "application_name = %s AND state = 'streaming' AND sync_state = %s"
    asked = f"SELECT count(*) FROM pg_stat_replication WHERE {known}"
    wait_until(lambda: primary.sql("postgres", asked, REPLICA, state)[0][0], "the replica")


def is_replayed(primary: Postgres) -> bool:
    lag = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication"
    return bool(primary.sql("postgres", lag)[0][0] == 0)
