"""What tests of several files have running."""

from collections.abc import Iterator

import pytest

from tests.e2e.lost_database import Place
from tests.e2e.oauth_kit import DOMAIN
from tests.peers.canaries import RIGHT
from tests.peers.dovecot import Dovecot
from tests.peers.oidc import Client, IdentityServer, identity_server
from tests.peers.postgres import Postgres, postgres_server
from tests.peers.wire import wire_to


@pytest.fixture
def identity(dovecot: Dovecot) -> Iterator[IdentityServer]:
    with identity_server(dovecot.token) as server:
        server.clients["public"] = Client("public", "", "")
        server.clients["app"] = Client("app", RIGHT, f"own@{DOMAIN}")
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[Postgres]:
    """A PostgreSQL that may be lost, for all tests that make it whole again (`lost_database`)."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def place(cluster: Postgres) -> Iterator[Place]:
    """A new database in it, and a way over the network. Asked for before a relay, it is there until that has ended."""
    with wire_to(cluster.folder / ".s.PGSQL.5432") as wire:
        yield Place(cluster, wire, cluster.new_database())


@pytest.fixture
def primary() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server
