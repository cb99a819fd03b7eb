"""`relay provider`: the providers whose settings Relay knows. It needs neither settings nor a running relay."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from typer import Option

from relay.cli import complete
from relay.cli.output import TableRows, print_json
from relay.cli.shared import AsJson, ask, command, noun
from relay.config.units import format_size

if TYPE_CHECKING:
    from relay.directory.presets import Preset

app = noun("Providers: their servers, limits and notes.", "relay provider list")

AUTH = "none, plain, login, cram-md5, scram-sha-256, oauth2 or auto"
Provider: TypeAlias = Annotated[
    str | None,
    Option(
        metavar="P", autocompletion=complete.providers, help="Fill the rest for a known provider: relay provider list."
    ),
]
ClientId: TypeAlias = Annotated[str | None, Option(metavar="ID", help="OAuth: the id of the app you registered there.")]
Tenant: TypeAlias = Annotated[str | None, Option(metavar="T", help="OAuth: the organisation there.")]

_LIMITS: Mapping[str, str] = {
    "max_connections": "{} connections",
    "messages_per_minute": "{} messages a minute",
    "recipients_per_day": "{} recipients a day",
    "recipients_per_message": "{} recipients a message",
    "message_size": "{} a message",
    "max_messages_per_connection": "{} messages a connection",
}


@command(app, "list", "relay provider list --json")
def list_(as_json: AsJson = False) -> None:
    """List the providers: server, limits, what to know. JSON has the source of each figure."""
    from relay.control.entries.provider_records import provider_records

    records = provider_records()
    if as_json:
        return print_json(records)
    table = TableRows(("name", "host", "security", "auth"), flexible=0, empty="")
    for record in records:
        row = [record["name"], f"{record['host']}:{record['port']}", record["security"], record["auth"]]
        table.add(row, "; ".join(filter(None, [_limits(record["limits"]), record["note"]])))
    return table.close()


def oauth_values(client_id: str | None, tenant: str | None) -> dict[str, Any]:
    """Return what the options for OAuth say as values of a server."""
    oauth = {key: value for key, value in {"client_id": client_id, "tenant": tenant}.items() if value}
    return {"oauth": oauth} if oauth else {}


def needs_app(provider: str | None) -> bool:
    """Whether an app of one's own logs in at a provider, by Microsoft Graph. Raises Refused for an unknown one."""
    return provider is not None and preset_of(provider).values.get("kind") == "msgraph"


def ask_for_app(username: str | None, client_id: str | None, tenant: str | None) -> tuple[str, str, str]:
    """Return as whom an app sends at Microsoft, and which app it is; a person is asked for what is missing."""
    return (
        username or ask("The mailbox that sends (its user name)"),
        client_id or ask("The client id of the app that you registered there"),
        tenant or ask("The tenant: the id or a domain of your organisation there"),
    )


def ask_for_key(provider: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given of a server with an HTTP API, and what a person says where something is missing."""
    from relay.directory.http_apis import HTTP_APIS

    values, preset = dict(given), preset_of(provider)
    api = HTTP_APIS[preset.values["api"]]
    if preset.host_form and "host" not in values:
        values["host"] = preset.host_form.replace("REGION", ask("The region, such as eu-central-1"))
    values["username"] = values.get("username") or ask(f"The {api.username} (its user name)")
    values["address"] = values.get("address") or ask("The address that mail leaves with")
    return values


def key_words(provider: str) -> str:
    """Return what a provider with an HTTP API calls its passwords; "" for any other. Raises Refused for an unknown."""
    from relay.directory.http_apis import HTTP_APIS

    api = preset_of(provider).values.get("api", "")
    return HTTP_APIS[api].password if api else ""


def preset_of(provider: str) -> "Preset":
    """Return what is known about a provider. Raises Refused with a suggestion."""
    from relay.control.refused import Refused
    from relay.directory.presets import preset
    from relay.directory.values import EditRefused

    try:
        return preset(provider)
    except EditRefused as error:
        raise Refused(str(error), key=error.key) from error


def _limits(limits: dict[str, int]) -> str:
    shown = {key: format_size(value) if key == "message_size" else value for key, value in limits.items()}
    return ", ".join(_LIMITS[key].format(value) for key, value in shown.items())
