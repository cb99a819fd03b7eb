"""What Relay knows of providers, as records. `relay provider list` loads nothing else, the store least of all."""

from typing import Any

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
        "security": server.effective_security.value,
        "auth": server.auth.value,
        "username": server.username,
        "limits": {key: getattr(server, key) for key in LIMITS if key in preset.values},
        "note": preset.note,
        "values": dict(preset.values),
        "sources": dict(preset.sources),
    }
