"""What the tests of this folder share."""

from collections.abc import AsyncIterator

import pytest

from relay.incoming.open_mailbox import Mailboxes


@pytest.fixture
async def mailboxes() -> AsyncIterator[Mailboxes]:
    opened = Mailboxes()
    yield opened
    await opened.aclose()
