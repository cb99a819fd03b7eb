"""The form of a server: what it asks for, with plain words about what each answer means."""

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from relay.directory.model import Security
from relay.web.kit.entry_editing import Record
from relay.web.kit.forms import Choice, Field, Group
from relay.web.pages.mailbox_fields import mailbox_group

_TECHNICAL: Mapping[str, str] = MappingProxyType({"autocapitalize": "none", "spellcheck": "false"})
PORTS: Mapping[str, int] = MappingProxyType({security.value: security.port for security in Security})

_KINDS = (
    Choice("smtp", "SMTP", "By a mail server, as nearly all."),
    Choice("msgraph", "Microsoft Graph", "Microsoft 365 by HTTPS, without SMTP; needs OAuth, and no name and port."),
)
SECURITIES = (
    Choice("starttls", "STARTTLS", "Begins readable and is encrypted before anything is said; port 587."),
    Choice("tls", "TLS", "Encrypted from the first byte; port 465."),
    Choice(
        "none", "None", "Everybody on the way can read and change the mail; port 25. Only for this machine or a LAN."
    ),
)
LOGINS = (
    Choice("auto", "Automatic", "The best that the server offers, in one attempt."),
    Choice("plain", "PLAIN", "Gives the server the password as it is; encryption alone protects it on the way."),
    Choice("login", "LOGIN", "As PLAIN, in an older form that some servers want."),
    Choice("cram-md5", "CRAM-MD5", "Proves the password without sending it; the server has to keep it readable."),
    Choice(
        "scram-sha-256", "SCRAM-SHA-256", "Proves the password without giving it away to anybody, the server included."
    ),
    Choice(
        "oauth2", "OAuth 2", "No password at all: a token that the provider gave, for mail alone, and can take back."
    ),
    Choice("none", "No login", "The server knows this machine by its address."),
)
_FLOWS = (
    Choice("code", "In the browser", "A person allows it on the provider's page."),
    Choice("device", "At another device", "A person enters a code on the provider's page."),
    Choice("client_credentials", "As the application itself", "Nobody has to allow it; the client secret is enough."),
)
_PROVIDERS = (Choice("microsoft", "Microsoft"), Choice("google", "Google"), Choice("custom", "Another one"))


def server_groups(
    record: Record | None, presets: Sequence[Record], *, chosen: str, fill_at: str, followed: str
) -> Sequence[Group]:
    """Return the groups of the form.

    `chosen` is the preset that was filled in, `fill_at` where that is done; `followed` says who follows a new default.
    """
    return (
        Group("", (_preset(presets, chosen, fill_at), *_place(record))),
        Group("Login", _login(record)),
        Group("Use", _use(record, followed)),
        _tls_group(),
        _limits_group(),
        Group("Advanced", (_CHUNKING, _API_URL), is_folded=True),
        _oauth_group(record),
        mailbox_group(record, "Where mail to the server's address arrives: for mail that comes back."),
    )


def preset_texts(preset: Record) -> dict[str, str]:
    """Return what a provider's preset writes into the form; what it says nothing of becomes the default again."""
    values = preset["values"]
    oauth = values.get("oauth", {}) if values.get("auth") == "oauth2" else {}
    fixed = {"kind": "smtp", "host": "", "security": "starttls", "port": "", "auth": "auto"}
    limits = {one.key: one.start for one in _LIMITS if one.kind == "number"}
    tables = {f"oauth.{key}": str(oauth.get(key, "")) for key in ("provider", "tenant", "flow")}
    given = {key: str(value) for key, value in values.items() if key != "oauth"}
    return {**fixed, **limits, **tables, **given}


def _preset(presets: Iterable[Record], chosen: str, fill_at: str) -> Field:
    def choice(preset: Record) -> Choice:
        attributes = {
            "data-fill": json.dumps(preset_texts(preset)),
            "data-note": _sentence(preset["note"]),
            "data-host": preset["host"],
        }
        return Choice(preset["name"], preset["title"], attributes=attributes)

    presets = tuple(presets)
    note = next((one["note"] for one in presets if one["name"] == chosen), "")
    none = Choice("", "Another one: everything by hand")
    return Field(
        key="preset",
        label="Provider",
        kind="select",
        choices=(none, *map(choice, presets)),
        hint=_sentence(note) or "Choosing one fills in what is known of it.",
        attributes={"data-fills": "f-"},
        is_own=True,
        button="Fill in",
        button_to=fill_at,
    )


def _place(record: Record | None) -> Sequence[Field]:
    port = record["port"] if record else PORTS["starttls"]
    follows = {"data-ports": json.dumps(dict(PORTS)), "data-port-field": "f-port"}
    anew = "For another name its passwords, and those of accounts at it, must be entered anew."
    return (
        Field(key="kind", label="How it is reached", kind="select", choices=_KINDS, start="smtp"),
        Field(
            key="host",
            label="Server name",
            placeholder="smtp.example.com",
            hint=anew if record else "Needed for SMTP, and for nothing else.",
            attributes=_TECHNICAL,
        ),
        Field(key="security", label="Connection security", kind="select", choices=SECURITIES, attributes=follows),
        Field(
            key="port",
            label="Port",
            kind="number",
            placeholder=str(port),
            hint="Left empty it follows the connection security.",
        ),
    )


def _login(record: Record | None) -> Sequence[Field]:
    is_set = record is not None and record["password_set"]
    address = record["address"] if record else ""
    return (
        Field(key="auth", label="Authentication method", kind="select", choices=LOGINS),
        Field(
            key="username",
            label="User name",
            placeholder="mailer@example.com",
            hint="None where there is no login.",
            attributes=_TECHNICAL,
        ),
        Field(
            key="password",
            label="Password",
            kind="password",
            autocomplete="new-password",
            hint="Set; fill in to replace it." if is_set else "It is kept encrypted and never shown again.",
        ),
        Field(
            key="address",
            label="Address",
            kind="email",
            placeholder=address or "mailer@example.com",
            hint="What mail of this server's own account leaves with; left empty it is the user name, if that is one.",
        ),
    )


def _use(record: Record | None, followed: str) -> Sequence[Field]:
    default = Field(key="default", label="Set as default now", kind="check", hint=followed, is_own=True)
    internal = Field(
        key="internal",
        label="Internal: shared, nobody logs in with an account of their own",
        kind="check",
        hint="Channels and agents on it cannot override; their mail leaves with the server's address.",
    )
    reports = Field(
        key="null_sender",
        label="Takes reports, which have no sender",
        kind="check",
        hint="Without it reports leave from the server's address; some providers want that.",
        start="true",
    )
    return (*(() if record else (default,)), internal, reports)


def _tls_group() -> Group:
    checks = Field(
        key="verify_tls",
        label="Check the server's certificate",
        kind="check",
        hint="Without it anybody on the way can pass for the server and read passwords and mail.",
        start="true",
    )
    authority = Field(
        key="ca_file",
        label="Certificate authority",
        off="A file on the machine, for a certificate of your own authority. It is set there: "
        "relay server set NAME ca_file=PATH",
        attributes=_TECHNICAL,
    )
    plain = Field(
        key="allow_plaintext_password",
        label="Allow passwords without encryption",
        kind="check",
        hint="Danger: whoever sees the network traffic has the password. Only for a network that you trust entirely.",
    )
    return Group("Certificate and encryption", (checks, authority, plain), is_folded=True)


def _number(key: str, label: str, hint: str, start: str = "") -> Field:
    return Field(key=key, label=label, kind="number", hint=hint, placeholder="no limit", start=start)


_LIMITS = (
    _number("max_connections", "Connections at once", "For each account.", "4"),
    _number("max_messages_per_connection", "Messages per connection", "Then a new one is opened.", "100"),
    _number("recipients_per_message", "Recipients per message", "A message with more is split."),
    _number("message_size", "Largest message", "With a unit: 25MiB."),
    _number("messages_per_minute", "Messages per minute", "The rest waits its turn."),
    _number("recipients_per_day", "Recipients per day", "In any 24 hours; the rest waits."),
    Field(key="shared_limits", label="All accounts of this server together have these limits", kind="check"),
)


_CHUNKING = Field(
    key="chunking",
    label="Send in chunks (BDAT)",
    kind="check",
    hint="Where the server offers CHUNKING: less work for both sides. Try it with a test before you rely on it.",
)

_API_URL = Field(
    key="api_url",
    label="Address of the API",
    hint="Only for another way than SMTP, and only where the provider has several: a national cloud's.",
    attributes={**_TECHNICAL, "inputmode": "url"},
)


def _limits_group() -> Group:
    return Group("Limits", _LIMITS, "What the provider allows. Relay keeps within it instead of being refused.", True)


def _oauth_group(record: Record | None) -> Group:
    https = {**_TECHNICAL, "inputmode": "url"}
    is_set = record is not None and record["client_secret_set"]
    custom = "For another provider alone."
    fields = (
        Field(key="oauth.provider", label="OAuth provider", kind="select", choices=_PROVIDERS, start="microsoft"),
        Field(
            key="oauth.client_id",
            label="Client ID",
            hint="Of the app that you registered there.",
            attributes=_TECHNICAL,
        ),
        Field(
            key="client_secret",
            label="Client secret",
            kind="password",
            autocomplete="new-password",
            hint="Set; fill in to replace it." if is_set else "Where the app has one. It is never shown again.",
        ),
        Field(
            key="oauth.tenant",
            label="Tenant",
            hint="Microsoft alone: your organisation's id or a domain.",
            attributes=_TECHNICAL,
        ),
        Field(key="oauth.flow", label="How it is allowed", kind="select", choices=_FLOWS, start="code"),
        Field(key="oauth.authorize_url", label="Authorization address", hint=custom, attributes=https),
        Field(key="oauth.token_url", label="Token address", hint=custom, attributes=https),
        Field(key="oauth.device_url", label="Device address", hint=custom, attributes=https),
        Field(key="oauth.scope", label="Scope", hint="Left empty it is what mail needs there.", attributes=_TECHNICAL),
        Field(
            key="oauth.key_file",
            label="Key in place of a client secret",
            off="A file on the machine: an app's certificate with its key, or a service account's. It is set there: "
            "relay server set NAME oauth.key_file=PATH",
            attributes=_TECHNICAL,
        ),
    )
    intro = "For the authentication method OAuth 2. Save it, then authorize the account."
    return Group("OAuth client", fields, intro, is_folded=True, opens_with=("auth", "oauth2"))


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}." if note else ""


def model_values(record: Record, keys: Iterable[str]) -> dict[str, Any]:
    """Return what directory.toml would say of a server as its record shows it."""
    follows = record["follows"]
    return {key: record[key] for key in keys if key in record and key not in follows and record[key] not in (None, [])}
