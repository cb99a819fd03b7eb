"""A private PostgreSQL: one cluster for each process of a test run, and a fresh database for each use."""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from tests.peers.packages import program
from tests.peers.system import private_folder, wait_until

# For the mark `needs`.
NEEDS = ("initdb", "postgres")
USER = "relay"
_PORT = 5432  # only the name of the socket has it
# Nothing of it must outlive the test run; a test of durability says otherwise.
_QUICK = ("fsync=off", "full_page_writes=off")
_OPTIONS = (
    "listen_addresses=",
    "max_connections=200",
    "shared_buffers=64MB",
    "autovacuum=off",  # whoever fills a table much says ANALYZE itself
    "max_wal_size=2GB",
    "logging_collector=off",
    "log_min_messages=warning",
)


class Postgres:
    """A running cluster. It lets every user of this machine in, as any of its own; on a unix socket alone."""

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self.folder = folder
        self.log = folder / "log"
        self._data = folder / "data"
        self._options = options
        self._numbers = count()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its first process, from which the others descend."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str, **parameters: str) -> str:
        """Where a database is, for relay.toml."""
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        return f"postgresql://{USER}@/{database}?host={self.folder}{more}"

    def new_database(self, like: str = "template0") -> str:
        """Make a database, empty or as another one, and return its name."""
        name = f"store{next(self._numbers)}"
        self.sql("postgres", f"CREATE DATABASE {name} TEMPLATE {like} OWNER {USER} STRATEGY FILE_COPY")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.sql("postgres", f"DROP DATABASE {name} WITH (FORCE)")

    def sql(self, database: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser, and return the rows that it finds."""
        with self.connected(database) as connection:
            found = connection.execute(statement, values or None)
            return found.fetchall() if found.description else []

    def connected(self, database: str) -> "psycopg.Connection[tuple[Any, ...]]":
        """A connection of the superuser, each of whose statements is a transaction."""
        return psycopg.connect(host=str(self.folder), user="postgres", dbname=database, autocommit=True)

    def demand_password(self, user: str, password: str) -> None:
        """Make a user who is let in only with a password."""
        self.sql("postgres", f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"local all {user} scram-sha-256\n{rules.read_text()}")
        self.sql("postgres", "SELECT pg_reload_conf()")

    def start(self, *before: str) -> None:
        """Run the server, and wait until it answers. `before`: a program that runs it as whom it likes."""
        settings = [part for option in (*_OPTIONS, *self._options) for part in ("-c", option)]
        argv = [*before, program("postgres"), "-D", str(self._data), "-k", str(self.folder), *settings]
        user = None if before else _account()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, user=user
            )
        wait_until(self._answers, "PostgreSQL answering", 60)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All of it is stopped where it stands: it keeps its connections, and answers nobody."""
        self._signal_all(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal_all(signal.SIGCONT)

    def promote(self) -> None:
        """Make a replica one that can be written, and wait until it is."""
        self.sql("postgres", "SELECT pg_promote(true, 60)")

    def refuse_replicas(self) -> None:
        """Send nothing more to any replica: what is committed from now on, it alone has."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"local replication all reject\n{rules.read_text()}")
        loaded = "SELECT pg_conf_load_time()"
        before = self.sql("postgres", loaded)
        self.sql("postgres", "SELECT pg_reload_conf()")
        wait_until(lambda: self.sql("postgres", loaded) != before, "the new rules")
        self.sql("postgres", "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_replication")

    def stop(self) -> None:
        """End it without waiting for anything (its "immediate" way): to write it all to the disk can take long."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End all of it at once, as a failing machine does."""
        self._signal_all(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def make(self) -> None:
        """Make the files of the cluster."""
        account = _account()
        if account is not None:
            os.chown(self.folder, pwd.getpwnam(account).pw_uid, -1)
        argv = [program("initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        done = subprocess.run(
            [*argv, "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
            check=False,
            capture_output=True,
            timeout=60,
            cwd=self.folder,
            user=account,
        )
        assert done.returncode == 0, done.stderr

    def make_replica(self, primary: "Postgres", name: str) -> None:
        """Make the files of a cluster that follows another, by streaming; `name` is what the other knows it by."""
        account = _account()
        if account is not None:
            os.chown(self.folder, pwd.getpwnam(account).pw_uid, -1)
        argv = [program("pg_basebackup"), "-h", str(primary.folder), "-U", "postgres", "-D", str(self._data)]
        done = subprocess.run(
            [*argv, "-X", "stream", "-c", "fast", "--no-sync"],
            check=False,
            capture_output=True,
            timeout=120,
            cwd=self.folder,
            user=account,
        )
        assert done.returncode == 0, done.stderr
        (self._data / "standby.signal").touch()
        self._options = (
            *self._options,
            f"primary_conninfo=host={primary.folder} user=postgres application_name={name}",
        )

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        for pid in (self._process.pid, *_children(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended:\n{self.log.read_text(errors='replace')}")
        try:
            self.sql("postgres", "SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def replica_of(primary: Postgres, name: str, *options: str) -> Iterator[Postgres]:
    """A running replica of a cluster."""
    with private_folder("pg") as folder:
        server = Postgres(folder, options or _QUICK)
        server.make_replica(primary, name)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def postgres_server(*options: str) -> Iterator[Postgres]:
    """A cluster with a user "relay", which owns every new database."""
    with private_folder("pg") as folder:
        server = Postgres(folder, options or _QUICK)
        server.make()
        server.start()
        try:
            server.sql("postgres", f"CREATE ROLE {USER} LOGIN")
            yield server
        finally:
            server.stop()


def _account() -> str | None:
    """Who runs it: root may not. Debian's package has a user for it."""
    return "postgres" if os.geteuid() == 0 else None


def _children(pid: int) -> set[int]:
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
