"""The operation on providers: what Relay knows of them."""

from typing import Any

from relay.control.operation import Operation
from relay.directory.presets import Preset, presets

# The limits in the order in which people look for them.
LIMITS = (
    "max_connections",
    "messages_per_minute",
    "recipients_per_day",
    "recipients_per_message",
    "message_size",
    "max_messages_per_connection",
)


class Providers:
    """What can be asked about providers. They come with the program, so it needs no relay."""

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"provider.list": Operation(self.list_)}

    async def list_(self) -> list[dict[str, Any]]:
        """Return all providers."""
        return provider_records()


def provider_records() -> list[dict[str, Any]]:
    """Return all providers in the order of their names.

    `values` are the keys of a server that the preset sets, `limits` those that limit (bytes for a size), `sources` the
    page for each value.
    """
    return [_record(preset) for preset in presets().values()]


def _record(preset: Preset) -> dict[str, Any]:
    server = preset.server()
    return {
        "name": preset.name,
        "title": preset.title,
        "host": preset.host,
        "port": server.effective_port,
        "security": server.security.value,
        "auth": server.auth.value,
        "username": server.username,
        "limits": {key: getattr(server, key) for key in LIMITS if key in preset.values},
        "note": preset.note,
        "values": dict(preset.values),
        "sources": dict(preset.sources),
    }
