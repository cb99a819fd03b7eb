from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.store.queue import Queue
from tests.store.store_kit import open_queue


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[Queue]:
    async with open_queue(tmp_path / "relay.db") as opened:
        yield opened
