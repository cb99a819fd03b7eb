"""The keys of directory.toml: their types, what a form asks for, and the tables inside an entry."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le

from relay.config.schema import Strict

Flag: TypeAlias = Annotated[bool, Strict()]
Count: TypeAlias = Annotated[int, Strict(), Ge(0)]
Number: TypeAlias = Annotated[int, Strict(), Ge(1)]
Port: TypeAlias = Annotated[int, Strict(), Ge(1), Le(65535)]

MACHINE_KEYS = frozenset({"password_from", "ca_file", "key_file"})
"""Keys that name files and programs of the machine. They are set there alone, not over pages and API."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a form asks for a key: it stands behind the key's meaning in its type. `column` heads it in a list.

    `is_exact`: what is typed is a technical name, which a browser must not correct.
    """

    label: str
    hint: str = ""
    column: str = ""
    placeholder: str = ""
    is_exact: bool = False

    @property
    def head(self) -> str:
        """The head of its column."""
        return self.column or self.label


TypedPassword: TypeAlias = Annotated[
    str, "The password itself works, with a warning; `relay secrets import` moves it to the vault."
]
PasswordSource: TypeAlias = Annotated[
    str,
    "Where the password comes from, if not from the vault: file:PATH, env:NAME, credential:NAME or command:LINE.",
]


def hint_of(table: type, key: str) -> Any:
    """Return the type of a key, with what stands beside it; "oauth.flow" is a key of a table inside."""
    outer, _, inner = key.partition(".")
    hint = _hints(table)[outer]
    return hint_of(plain_type(hint), inner) if inner else hint


@cache  # asked for every field of every form; a model never changes
def _hints(table: type) -> Mapping[str, Any]:
    return get_type_hints(table, include_extras=True)


def asked_of(table: type, key: str) -> Asked | None:
    """Return how a form asks for a key; None for one that no form asks for."""
    return next((extra for extra in get_args(hint_of(table, key)) if isinstance(extra, Asked)), None)


def default_of(table: type, key: str) -> Any:
    """Return what a key is where nobody says it; None where that is nothing, and for one that must be said."""
    outer, _, inner = key.partition(".")
    if inner:
        return default_of(plain_type(hint_of(table, outer)), inner)
    field = next(field for field in fields(table) if field.name == key)
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def is_needed(table: type, key: str) -> bool:
    """Whether a key has no default. One of a table inside is not needed, as the table is not."""
    known: Mapping[str, Any] = {field.name: field for field in fields(table)}
    return key in known and known[key].default is MISSING and known[key].default_factory is MISSING


def plain_type(hint: Any) -> Any:
    """Return the type that a hint speaks of, without its Annotated and its `| None`."""
    if get_origin(hint) is Annotated:
        return plain_type(get_args(hint)[0])
    if type(None) in get_args(hint):
        return plain_type(next(arg for arg in get_args(hint) if arg is not type(None)))
    return hint


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
        Asked("Scope", "Defaults to what mail needs there.", is_exact=True),
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


# RFC 8314, RFC 9051, RFC 1939; the API's own is in its URL.
_PORTS: Mapping[str, tuple[int, int]] = MappingProxyType({"imap": (993, 143), "pop3": (995, 110), "api": (443, 80)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """`incoming`: the mailbox where mail for an address arrives."""

    __pydantic_config__: ClassVar = UNKNOWN_KEYS

    host: Annotated[
        str, "Its name or IP address.", Asked("Incoming server", placeholder="imap.example.com", is_exact=True)
    ]
    protocol: Annotated[
        Literal["imap", "pop3", "api"],
        "How the mailbox is read; api: by the API of a server of kind msgraph or gmail, which is named as host.",
        Asked("Protocol"),
    ] = "imap"
    security: Annotated[
        Literal["none", "starttls", "tls"], "How the connection is protected.", Asked("Incoming connection security")
    ] = "tls"
    port: Annotated[
        Port | None,
        "Where to connect; left out, it follows protocol and security: 993 or 143 for imap, 995 or 110 for pop3.",
        Asked("Incoming port", "Defaults to IMAP 993 or 143, POP3 995 or 110."),
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
    auth: Annotated[
        Literal["password", "oauth2"],
        "How we log in: with a password of its own, or with the access token of the account that sends.",
        Asked("Incoming login"),
    ] = "password"
    username: Annotated[
        str,
        'As whom we log in; "": as whoever sends, or the address.',
        Asked("Incoming user name", "Defaults to the user name that mail is sent with, or the address.", is_exact=True),
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
        secure, plain = _PORTS[self.protocol]
        return self.port or (secure if self.security == "tls" else plain)


Mailbox: TypeAlias = Annotated[
    Incoming | None, "The mailbox where mail for the address arrives: for round-trip tests and returned mail."
]
