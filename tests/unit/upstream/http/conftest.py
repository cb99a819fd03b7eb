"""A Graph of its own for each test."""

from collections.abc import Iterator

import pytest

from tests.peers.graph import GraphServer, graph_server


@pytest.fixture
def graph() -> Iterator[GraphServer]:
    with graph_server() as server:
        yield server
