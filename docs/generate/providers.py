"""The table of the providers whose settings Relay knows."""

from collections.abc import Iterator, Mapping

from docs.generate.blocks import Block, Heading, Table, Text
from relay.config.units import format_size
from relay.directory.model import Auth
from relay.directory.presets import Preset, presets

_LIMITS: Mapping[str, str] = {
    "max_connections": "{} connections",
    "messages_per_minute": "{} messages a minute",
    "recipients_per_day": "{} recipients a day",
    "recipients_per_message": "{} recipients a message",
    "message_size": "{} a message",
    "max_messages_per_connection": "{} messages a connection",
}


def provider_page() -> Iterator[Block]:
    """Yield the page about the presets."""
    yield Heading(1, "Providers")
    yield Text(
        "What `relay server add NAME --provider P` fills in. What you give beside it wins, and directory.toml says "
        "afterwards what is in effect. `relay provider list --json` names the page that each value was read in. "
        "[How to set each of them up](../providers/README.md)."
    )
    rows = [
        [f"`{name}`", preset.title, f"`{preset.host}`", _way(preset), _limits(preset), preset.note]
        for name, preset in presets().items()
    ]
    yield Table(("P", "provider", "host", "port, login", "limits", "what to know"), rows)


def _way(preset: Preset) -> str:
    server = preset.server()
    login = f", {server.auth}" if server.auth is not Auth.AUTO else ""
    return f"{server.effective_port}, {server.security}{login}"


def _limits(preset: Preset) -> str:
    shown = {key: value for key, value in preset.values.items() if key in _LIMITS}
    server = preset.server()
    sized = {**shown, **({"message_size": format_size(server.message_size)} if server.message_size else {})}
    return ", ".join(words.format(sized[key]) for key, words in _LIMITS.items() if key in sized)
