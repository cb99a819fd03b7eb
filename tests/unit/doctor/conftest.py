"""One NSD for all tests of the doctor."""

from collections.abc import Iterator

import pytest

from tests.peers.dns import name_server
from tests.unit.doctor.zone import zone


@pytest.fixture(scope="session")
def dns_server() -> Iterator[str]:
    """The "host:port" of a real name server that knows `zone`. Ask for needs("nsd")."""
    with name_server(zone()) as server:
        yield server
