"""The directory's values: what directory.toml says, frozen and valid by type (DESIGN: servers, channels, agents).

A field is declared once, here: its name, type, default and meaning are the schema of the file, of the commands, of the
pages and of the reference. What no type can say (references, uniqueness, one default) is in `rules`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from annotated_types import Ge, Le

from relay.config.schema import Size, Strict
from relay.mail.address import Address, AddressError

Flag: TypeAlias = Annotated[bool, Strict()]
Count: TypeAlias = Annotated[int, Strict(), Ge(0)]
Port: TypeAlias = Annotated[int, Strict(), Ge(1), Le(65535)]
TypedPassword: TypeAlias = Annotated[
    str, "The password itself works, with a warning; `relay secrets import` moves it to the vault."
]
PasswordSource: TypeAlias = Annotated[
    str,
    "Where the password comes from, if not from the vault: file:PATH, env:NAME, credential:NAME or command:LINE.",
]

# An unknown key is a fault; `rules` words it with a suggestion.
_CONFIG: Mapping[str, Any] = MappingProxyType({"extra": "forbid"})


class Security(StrEnum):
    """How a connection to a server is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"

    @property
    def port(self) -> int:
        """The port that goes with it: 25 (RFC 5321), 587 (RFC 6409), 465 (RFC 8314)."""
        return {Security.NONE: 25, Security.STARTTLS: 587, Security.TLS: 465}[self]


class Auth(StrEnum):
    """How we log in at a server; AUTO picks one mechanism by what EHLO offers."""

    NONE = "none"
    PLAIN = "plain"
    LOGIN = "login"
    CRAM_MD5 = "cram-md5"
    SCRAM_SHA_256 = "scram-sha-256"
    OAUTH2 = "oauth2"
    AUTO = "auto"


class Kind(StrEnum):
    """How a server is reached: by SMTP, or by a provider's own API over HTTPS, to which the whole message goes, too."""

    SMTP = "smtp"
    MSGRAPH = "msgraph"
    GMAIL = "gmail"

    @property
    def api_url(self) -> str:
        """Where the provider's API is; "" for SMTP.

        learn.microsoft.com/graph/deployments (national clouds have others) and
        developers.google.com/gmail/api/reference/rest.
        """
        return {
            Kind.SMTP: "",
            Kind.MSGRAPH: "https://graph.microsoft.com/v1.0",
            Kind.GMAIL: "https://gmail.googleapis.com",
        }[self]


class Mode(StrEnum):
    """What happens to a submission while its client waits (DESIGN section 5)."""

    AUTO = "auto"
    DIRECT = "direct"
    QUEUED = "queued"


class AliasIdentity(StrEnum):
    """How mail sent from an alias leaves: as the profile's address, or as the alias itself."""

    REWRITE = "rewrite"
    KEEP = "keep"


class UnknownSender(StrEnum):
    """What happens to a sender that is nobody's (`[policy]`)."""

    REJECT = "reject"
    DEFAULT = "default"


class ProfileKind(StrEnum):
    """Channel or agent. They share one set of names."""

    CHANNEL = "channel"
    AGENT = "agent"


class Meaning(StrEnum):
    """What an upstream's answer means (DESIGN section 5, providers.md)."""

    REFUSED = "refused"
    TEMPORARY = "temporary"
    THROTTLE = "throttle"
    QUOTA = "quota"
    LOCK_OUT = "lock-out"
    LOGIN_REFUSED = "login-refused"
    IDENTITY_REFUSED = "identity-refused"
    ACCOUNT_FULL = "account-full"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRule:
    """`[[servers.NAME.answers]]`: our reading of an answer; `match` is found in "CODE TEXT", without case."""

    __pydantic_config__: ClassVar = _CONFIG

    match: Annotated[str, 'The words, found in "CODE TEXT" of an answer without case.']
    means: Annotated[Meaning, "What such an answer means."]


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """`[servers.NAME.oauth]`: where and as whom tokens are asked for. No client_id: no app is registered there yet."""

    __pydantic_config__: ClassVar = _CONFIG

    provider: Annotated[
        Literal["microsoft", "google", "custom"],
        "Who gives the tokens; custom needs the addresses below, of the others they are known.",
    ]
    client_id: Annotated[str, "The id of the app that you registered there; nobody can log in without it."] = ""
    tenant: Annotated[str, "The organisation there."] = ""
    flow: Annotated[Literal["code", "device", "client_credentials"], "How the first token is got."] = "code"
    authorize_url: Annotated[str, "Where a custom provider asks people."] = ""
    token_url: Annotated[str, "Where a custom provider gives tokens."] = ""
    device_url: Annotated[str, "Where a custom provider begins the device flow."] = ""
    scope: Annotated[str, 'What is asked for; "": what mail needs at a provider that is known.'] = ""
    key_file: Annotated[
        str,
        "A file with a key of its own, for flow client_credentials: the PEM of the app's certificate and its private "
        "key (Microsoft, in place of a client secret), or the JSON of a service account (Google).",
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """`incoming`: the mailbox where mail for an address arrives."""

    __pydantic_config__: ClassVar = _CONFIG

    host: Annotated[str, "Its name or IP address."]
    protocol: Annotated[Literal["imap", "pop3"], "How the mailbox is read."] = "imap"
    security: Annotated[Literal["none", "starttls", "tls"], "How the connection is protected."] = "tls"
    port: Annotated[
        Port | None,
        "Where to connect; left out, it follows protocol and security: 993 or 143 for imap, 995 or 110 for pop3.",
    ] = None
    ca_file: Annotated[
        str, 'The PEM file of the authorities that its certificate may come from; "": those of the system.'
    ] = ""
    username: Annotated[str, 'As whom we log in; "": as whoever sends, or the address.'] = ""
    watch_bounces: Annotated[
        Flag, "Whether returned mail is looked for there, once a minute; it is shown with the message that came back."
    ] = False
    password: TypedPassword = field(default="", repr=False)
    password_from: PasswordSource = ""

    @property
    def effective_port(self) -> int:
        """The port that is connected to: as set, or by protocol and security (RFC 8314, RFC 9051, RFC 1939)."""
        secure, plain = (993, 143) if self.protocol == "imap" else (995, 110)
        return self.port or (secure if self.security == "tls" else plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A service that mail is handed on to. `name` comes from the table's header, not from a key."""

    __pydantic_config__: ClassVar = _CONFIG

    name: str
    kind: Annotated[
        Kind,
        "How it is reached: smtp, msgraph (Microsoft Graph) or gmail (Gmail API). The last two need auth oauth2, and "
        "no host, port and security.",
    ] = Kind.SMTP
    host: Annotated[str, "Its name or IP address; needed for kind smtp."] = ""
    api_url: Annotated[str, 'Where the API of kind msgraph or gmail is; "": where the provider has it.'] = ""
    security: Annotated[Security, "How the connection is protected."] = Security.STARTTLS
    port: Annotated[
        Port | None, "Where to connect; left out, it follows the security: 25 (none), 587 (starttls) or 465 (tls)."
    ] = None
    auth: Annotated[Auth, "How we log in; auto takes what the server offers."] = Auth.AUTO
    username: Annotated[str, 'As whom we log in; none with auth = "none".'] = ""
    address: Annotated[
        str, "What mail of the server's own account leaves with; left out, its username, if that is an address."
    ] = ""
    internal: Annotated[
        Flag, "Whether it is shared by all, so that no channel or agent may log in there with an account of its own."
    ] = False
    verify_tls: Annotated[Flag, "Whether its certificate is checked; false encrypts without knowing to whom."] = True
    ca_file: Annotated[
        str, 'The PEM file of the authorities that its certificate may come from; "": those of the system.'
    ] = ""
    allow_plaintext_password: Annotated[
        Flag, "Whether plain, login and auto may send the password over security none to another machine."
    ] = False
    null_sender: Annotated[Flag, "Whether it takes MAIL FROM:<>; where not, reports leave from the identity."] = True
    chunking: Annotated[
        Flag, "Whether mail goes by BDAT where the server offers CHUNKING, which is less work for both sides."
    ] = False
    max_connections: Annotated[int, Strict(), Ge(1), "How many connections each account has at most."] = 4
    max_messages_per_connection: Annotated[int, Strict(), Ge(1), "How many messages a connection carries at most."] = (
        100
    )
    recipients_per_message: Annotated[
        Count, "How many recipients a message has at most; more are split. 0: no limit."
    ] = 0
    message_size: Annotated[Size, "How large a message may be. 0: no limit but the server's own."] = 0
    messages_per_minute: Annotated[Count, "How many messages an account sends in a minute. 0: no limit."] = 0
    recipients_per_day: Annotated[Count, "To how many recipients an account sends in a day. 0: no limit."] = 0
    shared_limits: Annotated[Flag, "Whether these limits count all accounts of the server together."] = False
    answers: Annotated[tuple[AnswerRule, ...], "What answers of this server mean, before our own table is asked."] = ()
    oauth: Annotated[OAuthClient | None, "The app that asks for tokens, for auth oauth2."] = None
    incoming: Annotated[
        Incoming | None, "The mailbox where mail for the address arrives: for round-trip tests and returned mail."
    ] = None
    password: TypedPassword = field(default="", repr=False)
    password_from: PasswordSource = ""

    @property
    def effective_api_url(self) -> str:
        """Where the API is: as set, or where the provider has it; "" for SMTP."""
        return self.api_url.rstrip("/") or self.kind.api_url

    @property
    def effective_host(self) -> str:
        """The name or IP address that is connected to: as set, or that of the API."""
        return self.host or urlsplit(self.effective_api_url).hostname or ""

    @property
    def effective_port(self) -> int:
        """The port that is connected to: as set, or as it follows the security, or that of the API."""
        if self.kind is Kind.SMTP:
            return self.port or self.security.port
        return urlsplit(self.effective_api_url).port or (443 if self.effective_security is Security.TLS else 80)

    @property
    def effective_security(self) -> Security:
        """How the connection is protected: as set, or by TLS, but for an API on this machine itself."""
        if self.kind is Kind.SMTP:
            return self.security
        return Security.NONE if self.effective_api_url.startswith("http://") else Security.TLS

    @property
    def identity(self) -> Address | None:
        """The address that mail of its own account leaves with; None for a server without one."""
        return _address_or_none(self.address or self.username)

    @property
    def takes_null_sender(self) -> bool:
        """Whether a message may leave without a sender; an API has none."""
        return self.null_sender and self.kind is Kind.SMTP

    def scope(self, account: "Account") -> str:
        """Whose limits count for an account of this server: "SERVER/USERNAME", or "SERVER" for all of them together."""
        return self.name if self.shared_limits else account.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What channels and agents have in common: an address, its aliases, and how it sends."""

    __pydantic_config__: ClassVar = _CONFIG
    kind: ClassVar[ProfileKind]

    name: str
    address: Annotated[str, "The address that mail leaves with."]
    aliases: Annotated[tuple[str, ...], 'Other addresses; "@domain" stands for a whole domain.'] = ()
    server: Annotated[str | None, "Through which server it sends; left out, default_server."] = None
    override: Annotated[
        Flag, "Whether it logs in with its own account and leaves with its own address, not the server's."
    ] = False
    username: Annotated[str, "As whom it logs in when it overrides; left out, its address."] = ""
    alias_identity: Annotated[
        AliasIdentity, "How mail from an alias leaves: rewrite (as the address) or keep (as the alias; needs override)."
    ] = AliasIdentity.REWRITE
    script: Annotated[
        str | None, "Its header rules; a channel without any follows the script default, if there is one."
    ] = None
    mode: Annotated[Mode | None, "Its own delivery mode; left out, that of relay.toml."] = None
    incoming: Annotated[
        Incoming | None, "The mailbox where mail for the address arrives: for round-trip tests and returned mail."
    ] = None
    password: TypedPassword = field(default="", repr=False)
    password_from: PasswordSource = ""

    @property
    def login_name(self) -> str:
        """Whom it logs in as upstream when it overrides."""
        return self.username or self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel(Profile):
    """A shared sending address."""

    kind: ClassVar[ProfileKind] = ProfileKind.CHANNEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent(Profile):
    """A person's sending address."""

    kind: ClassVar[ProfileKind] = ProfileKind.AGENT

    full_name: Annotated[str, "The person's name."] = ""
    group: Annotated[str, "The group of agents, for filters and may_send_as."] = ""
    role: Annotated[str, "The person's role in the company, in any words."] = ""
    country: Annotated[str, "The person's country."] = ""
    language: Annotated[str, "The person's language."] = ""
    may_send_as: Annotated[
        tuple[str, ...], 'As whom else the login may send: names, "group:NAME", or "*" for all.'
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A login of software that may send as several profiles: names, "group:NAME" or "*"."""

    __pydantic_config__: ClassVar = _CONFIG

    name: str
    may_send_as: Annotated[tuple[str, ...], 'As whom the login may send: names, "group:NAME", or "*" for all.'] = ()
    bounces: Annotated[
        str | None,
        "For a mail server: the channel or agent its bounces leave from; left out, the one that a bounce is for.",
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Named header rules for a channel's mail."""

    __pydantic_config__: ClassVar = _CONFIG

    name: str
    set_headers: Annotated[Mapping[str, str], "Header fields to set; they replace those of the message."] = field(
        default_factory=dict
    )
    remove_headers: Annotated[tuple[str, ...], "Header fields to remove."] = ()


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """Whom we log in as. Holds, pace and budgets belong to it. `username` is "" where the server wants no login.

    `text` is how it is shown and counted: "SERVER/USERNAME".
    """

    server: str
    username: str
    text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{self.server}/{self.username}")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The whole directory. Every reference in it is good: `rules` made sure before it exists."""

    default_server: Annotated[
        str | None, "The server of all channels and agents that choose none; needed as soon as there is a server."
    ] = None
    servers: Mapping[str, Server] = field(default_factory=dict)
    channels: Mapping[str, Channel] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)
    applications: Mapping[str, Application] = field(default_factory=dict)
    scripts: Mapping[str, Script] = field(default_factory=dict)

    def profiles(self) -> Iterator[Profile]:
        """All channels, then all agents."""
        yield from self.channels.values()
        yield from self.agents.values()

    def profile(self, name: str) -> Profile | None:
        """The channel or agent of that name."""
        return self.channels.get(name) or self.agents.get(name)

    def server_of(self, profile: Profile) -> Server | None:
        """The server a profile sends through: its own choice or the default; None in a directory without servers."""
        name = profile.server or self.default_server
        return self.servers[name] if name else None

    def account_of(self, profile: Profile) -> Account | None:
        """The account that logs in for a profile."""
        server = self.server_of(profile)
        if server is None:
            return None
        return Account(server.name, profile.login_name if profile.override else server.username)

    def accounts(self) -> Iterator[Account]:
        """Every account that somebody may send through: each server's own, then each profile's, some of them again."""
        yield from (Account(server.name, server.username) for server in self.servers.values())
        yield from filter(None, map(self.account_of, self.profiles()))

    def script_of(self, profile: Profile) -> Script | None:
        """The header rules of a channel's mail: those it names, else those named `default`. Agents name theirs."""
        if profile.script:
            return self.scripts[profile.script]
        return self.scripts.get("default") if isinstance(profile, Channel) else None

    def users_of(self, server: str) -> Iterator[Profile]:
        """The profiles that send through a server, those that follow the default included."""
        for profile in self.profiles():
            if (profile.server or self.default_server) == server:
                yield profile


def _address_or_none(text: str) -> Address | None:
    try:
        return Address.parse(text)
    except AddressError:
        return None
