"""The operation on providers: what Relay knows of them."""

from typing import Any

from relay.control.entries.provider_records import provider_records
from relay.control.operation import Operation


class Providers:
    """What can be asked about providers. They come with the program, so it needs no relay."""

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"provider.list": Operation(self.list_)}

    async def list_(self) -> list[dict[str, Any]]:
        """Return all providers."""
        return provider_records()
