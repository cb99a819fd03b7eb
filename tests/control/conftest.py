from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.control.operations import Operations
from tests.control.control_kit import operations_in


@pytest.fixture
async def operations(tmp_path: Path) -> AsyncIterator[Operations]:
    """The operations of a relay with two servers, two channels and an agent."""
    async with operations_in(tmp_path) as operations:
        yield operations
