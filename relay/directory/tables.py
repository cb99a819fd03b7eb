"""The tables inside an entry of directory.toml: the client that asks for tokens, and the mailbox where mail arrives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from relay.directory.keys import Asked, Flag, PasswordSource, Port, TypedPassword

UNKNOWN_KEYS: Mapping[str, Any] = MappingProxyType({"extra": "forbid"})
"""An unknown key is a fault; `rules` words it with a suggestion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """`[servers.NAME.oauth]`: where and as whom tokens are asked for. No client_id: no app is registered there yet."""

    __pydantic_config__: ClassVar = UNKNOWN_KEYS

    provider: Annotated[
        Literal["microsoft", "google", "custom"],
        "Who gives the tokens; custom needs the addresses below, of the others they are known.",
        Asked("OAuth provider"),
    ]
    client_id: Annotated[
        str,
        "The id of the app that you registered there; nobody can log in without it.",
        Asked("Client ID", "Of the app that you registered there.", is_exact=True),
    ] = ""
    tenant: Annotated[
        str,
        "The organisation there.",
        Asked("Tenant", "Microsoft alone: your organisation's id or a domain.", is_exact=True),
    ] = ""
    flow: Annotated[
        Literal["code", "device", "client_credentials"], "How the first token is got.", Asked("How it is allowed")
    ] = "code"
    authorize_url: Annotated[
        str,
        "Where a custom provider asks people.",
        Asked("Authorization address", "For another provider alone.", is_exact=True),
    ] = ""
    token_url: Annotated[
        str,
        "Where a custom provider gives tokens.",
        Asked("Token address", "For another provider alone.", is_exact=True),
    ] = ""
    device_url: Annotated[
        str,
        "Where a custom provider begins the device flow.",
        Asked("Device address", "For another provider alone.", is_exact=True),
    ] = ""
    scope: Annotated[
        str,
        'What is asked for; "": what mail needs at a provider that is known.',
        Asked("Scope", "Left empty it is what mail needs there.", is_exact=True),
    ] = ""
    key_file: Annotated[
        str,
        "A file with a key of its own, for flow client_credentials: the PEM of the app's certificate and its private "
        "key (Microsoft, in place of a client secret), or the JSON of a service account (Google).",
        Asked(
            "Key in place of a client secret",
            "A file on the machine: an app's certificate with its key, or a service account's. It is set there: "
            "relay server set NAME oauth.key_file=PATH",
            is_exact=True,
        ),
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """`incoming`: the mailbox where mail for an address arrives."""

    __pydantic_config__: ClassVar = UNKNOWN_KEYS

    host: Annotated[
        str, "Its name or IP address.", Asked("Incoming server", placeholder="imap.example.com", is_exact=True)
    ]
    protocol: Annotated[Literal["imap", "pop3"], "How the mailbox is read.", Asked("Protocol")] = "imap"
    security: Annotated[
        Literal["none", "starttls", "tls"], "How the connection is protected.", Asked("Incoming connection security")
    ] = "tls"
    port: Annotated[
        Port | None,
        "Where to connect; left out, it follows protocol and security: 993 or 143 for imap, 995 or 110 for pop3.",
        Asked("Incoming port", "Left empty it follows: IMAP 993 or 143, POP3 995 or 110."),
    ] = None
    ca_file: Annotated[
        str,
        'The PEM file of the authorities that its certificate may come from; "": those of the system.',
        Asked(
            "Incoming certificate authority",
            "A file on the machine; it is set there by a command, as incoming.ca_file=PATH.",
            is_exact=True,
        ),
    ] = ""
    username: Annotated[
        str,
        'As whom we log in; "": as whoever sends, or the address.',
        Asked("Incoming user name", "Left empty it is the one that mail is sent with, or the address.", is_exact=True),
    ] = ""
    watch_bounces: Annotated[
        Flag,
        "Whether returned mail is looked for there, once a minute; it is shown with the message that came back.",
        Asked(
            "Read what comes back", "Mail that could not be delivered later on is found there and told in the history."
        ),
    ] = False
    password: TypedPassword = field(default="", repr=False)
    password_from: PasswordSource = ""

    @property
    def effective_port(self) -> int:
        """The port that is connected to: as set, or by protocol and security (RFC 8314, RFC 9051, RFC 1939)."""
        secure, plain = (993, 143) if self.protocol == "imap" else (995, 110)
        return self.port or (secure if self.security == "tls" else plain)


Mailbox: TypeAlias = Annotated[
    Incoming | None, "The mailbox where mail for the address arrives: for round-trip tests and returned mail."
]
