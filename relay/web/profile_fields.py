"""The questions that channels and agents have in common: by which server they send, and as whom."""

from collections.abc import Mapping, Sequence
from typing import Any

from relay.web.forms import Choice, Field, Group
from relay.web.visit import Visit

_SHARED = "This server is internal: everybody on it sends with the server's own account and address."


async def sending_fields(visit: Visit, record: Mapping[str, Any] | None) -> Group:
    """Return the fields about the outgoing server; the override is off where the server is internal."""
    servers = await visit.run("server.list")
    chosen = visit.text("server") if visit.request.method == "POST" else (record or {}).get("server") or ""
    default = next((one for one in servers if one["default"]), None)
    server = next((one for one in servers if one["name"] == chosen), default)
    off = _SHARED if server is not None and server["internal"] else ""
    internal = " ".join(one["name"] for one in servers if one["internal"])
    if default is not None and default["internal"]:
        internal += " (default)"
    at_first = f"Default ({default['name']})" if default else "Default (there is none yet)"
    choose = Field(
        key="server",
        label="Outgoing mail server",
        kind="select",
        choices=(Choice("", at_first), *(Choice(one["name"], _label(one)) for one in servers)),
        attributes={"data-internal": internal, "data-shared": _SHARED},
    )
    override = Field(
        key="override",
        label="Override server configuration: send with an account of its own",
        kind="check",
        off=off,
        hint="Mail then leaves with the address above instead of the server's, and needs a password of its own.",
    )
    username = Field(
        key="username",
        label="User name at the server",
        off=off,
        placeholder="the address above",
        attributes={"autocapitalize": "none", "spellcheck": "false"},
    )
    return Group("Sending", (choose, override, username))


def handling_fields(scripts: Sequence[Mapping[str, Any]]) -> tuple[Field, ...]:
    """Return the fields that few profiles need."""
    return (
        Field(
            key="alias_identity",
            label="Mail from an alias",
            kind="select",
            choices=(
                Choice("rewrite", "leaves as the main address"),
                Choice("keep", "leaves as the alias (needs the override)"),
            ),
        ),
        Field(
            key="mode",
            label="Delivery",
            kind="select",
            choices=(
                Choice("", "As relay.toml says"),
                Choice("auto", "auto", "Handed over while the client waits; kept and tried again where that fails."),
                Choice("direct", "direct", "Never kept: the client hears at once what the server said."),
                Choice("queued", "queued", "Kept first and delivered in the background."),
            ),
        ),
        Field(
            key="script",
            label="Script",
            kind="select",
            choices=(Choice("", "None"), *(Choice(one["name"], one["name"]) for one in scripts)),
        ),
    )


def _label(server: Mapping[str, Any]) -> str:
    return f"{server['name']} (internal)" if server["internal"] else str(server["name"])
