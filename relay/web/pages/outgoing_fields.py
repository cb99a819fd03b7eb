"""The part of a form that says how a channel or agent sends: through which server, and with whose account."""

from collections.abc import Sequence

from relay.web.kit.entry_editing import Record
from relay.web.kit.forms import Choice, Field, FieldFaults, Group
from relay.web.kit.page_request import PageRequest

_TECHNICAL = {"autocapitalize": "none", "spellcheck": "false"}

_NOT_THERE = "For the override alone."


def outgoing_group(visit: PageRequest, record: Record | None, servers: Sequence[Record]) -> Group:
    """Return the group; the override is off, with the reason, where the server that is chosen is internal."""
    default = next((one for one in servers if one["default"]), None)
    chosen = visit.text("server") if visit.form else str((record or {}).get("server") or "")
    resolved = next((one for one in servers if one["name"] == chosen), default)
    off = _reason(resolved) if resolved is not None and resolved["internal"] else ""
    is_set = record is not None and record["override"] and record["password_set"]
    by_oauth = resolved is not None and resolved["auth"] == "oauth2"
    override = Field(
        key="override",
        label="Override server configuration",
        kind="check",
        hint="It logs in with an account of its own, and mail leaves with its own address.",
        off=off,
        attributes={"data-override": ""},
    )
    username = Field(
        key="username",
        label="User name",
        hint="Left empty it is the address.",
        off=off and _NOT_THERE,
        attributes=_TECHNICAL | {"data-override": ""},
    )
    password = Field(
        key="password",
        label="Email password",
        kind="password",
        autocomplete="new-password",
        hint=_password_hint(is_set=is_set, by_oauth=by_oauth),
        off=off and _NOT_THERE,
        attributes={"data-override": ""},
    )
    server = Field(key="server", label="Outgoing mail server", kind="select", choices=_choices(servers, default))
    return Group("Outgoing mail", (server, override, username, password))


def outgoing_faults(visit: PageRequest, fields: Sequence[Field]) -> FieldFaults:
    """Return what is wrong where a password is given and the override, which alone logs in with it, is not."""
    if visit.secret("password") is None:
        return {}
    if any(one.off for one in fields if one.key == "override"):
        return {"password": "nobody logs in with it on an internal server; choose another one, or leave this empty"}
    if visit.text("override") != "true":
        return {"password": "only with the override does anybody log in with it; tick that, or leave this empty"}
    return {}


async def dropped_override(visit: PageRequest, noun: str, name: str) -> str:
    """Return what is said where somebody ticked the override beside an internal server, as only without script goes."""
    if visit.text("override") != "true":
        return ""
    record = await visit.run(f"{noun}.show", name=name)
    return "" if record["override"] else f"its override is off, because {record['resolved_server']} is internal"


def _choices(servers: Sequence[Record], default: Record | None) -> tuple[Choice, ...]:
    def choice(server: Record, value: str, label: str) -> Choice:
        return Choice(value, label, attributes={"data-off": _reason(server) if server["internal"] else ""})

    first = (
        choice(default, "", f"{default['name']} (default)") if default else Choice("", "None yet: add a server first")
    )
    others = (choice(one, one["name"], f"{one['name']}{', internal' if one['internal'] else ''}") for one in servers)
    return (first, *others)


def _reason(server: Record) -> str:
    return f"Not possible on {server['name']}: it is internal, and mail leaves with its account and address."


def _password_hint(*, is_set: bool, by_oauth: bool) -> str:
    if by_oauth:
        return "Not needed: the server logs in by OAuth. Save, then authorize the account."
    return "Set; fill in to replace it." if is_set else "With which it logs in at the server. It is never shown again."
