from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.control.control_kit import AdminOperations, operations_in


@pytest.fixture
async def operations(tmp_path: Path) -> AsyncIterator[AdminOperations]:
    """The operations of a relay with two servers, two channels and an agent."""
    async with operations_in(tmp_path) as operations:
        yield operations
