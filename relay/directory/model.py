"""The directory's values: what directory.toml says, frozen and valid by type (DESIGN: servers, channels, agents).

A key is declared once, here: its name, type, default, meaning and how a form asks for it (`Asked`) are the schema of
the file, of the commands, of the pages, of the API and of the reference. What no type can say (references, uniqueness,
one default) is in `rules`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from relay.config.schema import Size
from relay.directory.tables import (
    UNKNOWN_KEYS,
    Asked,
    Count,
    Flag,
    Mailbox,
    Number,
    OAuthClient,
    PasswordSource,
    Port,
    TypedPassword,
)
from relay.mail.address import Address, AddressError


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
    HTTPS = "https"

    @property
    def api_url(self) -> str:
        """Where the provider's API is; "" for SMTP, and where each server names its own.

        learn.microsoft.com/graph/deployments (national clouds have others) and
        developers.google.com/gmail/api/reference/rest.
        """
        return {
            Kind.SMTP: "",
            Kind.MSGRAPH: "https://graph.microsoft.com/v1.0",
            Kind.GMAIL: "https://gmail.googleapis.com",
            Kind.HTTPS: "",
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

    __pydantic_config__: ClassVar = UNKNOWN_KEYS

    match: Annotated[str, 'The words, found in "CODE TEXT" of an answer without case.']
    means: Annotated[Meaning, "What such an answer means."]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A service that mail is handed on to. `name` comes from the table's header, not from a key."""

    __pydantic_config__: ClassVar = UNKNOWN_KEYS

    name: str
    kind: Annotated[
        Kind,
        "How it is reached: smtp, msgraph (Microsoft Graph), gmail (Gmail API) or https (another provider's HTTP API, "
        "which api names). Graph and Gmail need auth oauth2 and no host; none but smtp has a port and security.",
        Asked("How it is reached"),
    ] = Kind.SMTP
    api: Annotated[
        str,
        "Whose HTTP API it is, for kind https: ses (Amazon SES) or mailgun (Mailgun).",
        Asked("Whose HTTP API", "Only for another provider's HTTP API."),
    ] = ""
    host: Annotated[
        str,
        "Its name or IP address; needed for kind smtp and https.",
        Asked(
            "Server name",
            "Not needed for Microsoft Graph and the Gmail API.",
            placeholder="smtp.example.com",
            is_exact=True,
        ),
    ] = ""
    api_url: Annotated[
        str,
        'Where the API is; "": where the provider has it, or at the host of kind https.',
        Asked(
            "Address of the API",
            "Only for another way than SMTP, and only where the provider has several: a national cloud's.",
            is_exact=True,
        ),
    ] = ""
    security: Annotated[
        Security, "How the connection is protected.", Asked("Connection security", column="Security")
    ] = Security.STARTTLS
    port: Annotated[
        Port | None,
        "Where to connect; left out, it follows the security: 25 (none), 587 (starttls) or 465 (tls).",
        Asked("Port", "Defaults to the port of the connection security."),
    ] = None
    auth: Annotated[
        Auth, "How we log in; auto takes what the server offers.", Asked("Authentication method", column="Login")
    ] = Auth.AUTO
    username: Annotated[
        str,
        'As whom we log in; none with auth = "none".',
        Asked("User name", "None where there is no login.", placeholder="mailer@example.com", is_exact=True),
    ] = ""
    address: Annotated[
        str,
        "What mail of the server's own account leaves with; left out, its username, if that is an address.",
        Asked(
            "Address",
            "What mail of this server's own account leaves with; left empty it is the user name, if that is one.",
            placeholder="mailer@example.com",
        ),
    ] = ""
    internal: Annotated[
        Flag,
        "Whether it is shared by all, so that no channel or agent may log in there with an account of its own.",
        Asked(
            "Internal: shared, nobody logs in with an account of their own",
            "Channels and agents on it cannot override; their mail leaves with the server's address.",
        ),
    ] = False
    verify_tls: Annotated[
        Flag,
        "Whether its certificate is checked; false encrypts without knowing to whom.",
        Asked(
            "Check the server's certificate",
            "Without it anybody on the way can pass for the server and read passwords and mail.",
        ),
    ] = True
    ca_file: Annotated[
        str,
        'The PEM file of the authorities that its certificate may come from; "": those of the system.',
        Asked(
            "Certificate authority",
            "A file on the machine, for a certificate of your own authority. It is set there: "
            "relay server set NAME ca_file=PATH",
            is_exact=True,
        ),
    ] = ""
    allow_plaintext_password: Annotated[
        Flag,
        "Whether plain, login and auto may send the password over security none to another machine.",
        Asked(
            "Allow passwords without encryption",
            "Danger: whoever sees the network traffic has the password. Only for a network that you trust entirely.",
        ),
    ] = False
    null_sender: Annotated[
        Flag,
        "Whether it takes MAIL FROM:<>; where not, reports leave from the identity.",
        Asked(
            "Accepts bounce messages (empty sender)",
            "Without it reports leave from the server's address; some providers want that.",
        ),
    ] = True
    chunking: Annotated[
        Flag,
        "Whether mail goes by BDAT where the server offers CHUNKING, which is less work for both sides.",
        Asked(
            "Send in chunks (BDAT)",
            "Where the server offers CHUNKING: less work for both sides. Try it with a test before you rely on it.",
        ),
    ] = False
    max_connections: Annotated[
        Number,
        "How many connections each account has at most.",
        Asked("Connections at once", "For each account.", placeholder="no limit"),
    ] = 4
    max_messages_per_connection: Annotated[
        Number,
        "How many messages a connection carries at most.",
        Asked("Messages per connection", "Then a new one is opened.", placeholder="no limit"),
    ] = 100
    recipients_per_message: Annotated[
        Count,
        "How many recipients a message has at most; more are split. 0: no limit.",
        Asked("Recipients per message", "A message with more is split.", placeholder="no limit"),
    ] = 0
    message_size: Annotated[
        Size,
        "How large a message may be. 0: no limit but the server's own.",
        Asked("Largest message", "With a unit: 25MiB.", placeholder="no limit"),
    ] = 0
    messages_per_minute: Annotated[
        Count,
        "How many messages an account sends in a minute. 0: no limit.",
        Asked("Messages per minute", "The rest waits its turn.", placeholder="no limit"),
    ] = 0
    recipients_per_day: Annotated[
        Count,
        "To how many recipients an account sends in a day. 0: no limit.",
        Asked("Recipients per day", "In any 24 hours; the rest waits.", placeholder="no limit"),
    ] = 0
    shared_limits: Annotated[
        Flag,
        "Whether these limits count all accounts of the server together.",
        Asked("All accounts of this server together have these limits"),
    ] = False
    backup: Annotated[
        str,
        "The server by which its mail goes while it cannot be reached, as the same address and by a secret of its own; "
        '"": mail waits.',
        Asked("Backup server", "Its mail goes by this one while it cannot be reached.", placeholder="none"),
    ] = ""
    answers: Annotated[tuple[AnswerRule, ...], "What answers of this server mean, before our own table is asked."] = ()
    oauth: Annotated[OAuthClient | None, "The app that asks for tokens, for auth oauth2."] = None
    incoming: Mailbox = None
    password: TypedPassword = field(default="", repr=False)
    password_from: PasswordSource = ""

    @property
    def effective_api_url(self) -> str:
        """Where the API is: as set, or at the host, or where the provider has it; "" for SMTP."""
        if self.kind is Kind.HTTPS and not self.api_url:
            return f"https://{f'[{self.host}]' if ':' in self.host else self.host}"
        return self.api_url.rstrip("/") or self.kind.api_url

    @property
    def api_name(self) -> str:
        """Which API it is: that of its kind, or the one that kind https names."""
        return self.api if self.kind is Kind.HTTPS else self.kind.value

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
        try:
            return Address.parse(self.address or self.username)
        except AddressError:
            return None

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

    __pydantic_config__: ClassVar = UNKNOWN_KEYS
    kind: ClassVar[ProfileKind]

    name: str
    address: Annotated[str, "The address that mail leaves with.", Asked("Address")]
    aliases: Annotated[
        tuple[str, ...],
        'Other addresses; "@domain" stands for a whole domain.',
        Asked("Aliases", "Other addresses that mail may come from, one to a line; @domain means the whole domain."),
    ] = ()
    server: Annotated[
        str | None, "Through which server it sends; left out, default_server.", Asked("Outgoing mail server")
    ] = None
    override: Annotated[
        Flag,
        "Whether it logs in with its own account and leaves with its own address, not the server's.",
        Asked(
            "Override server configuration",
            "It logs in with an account of its own, and mail leaves with its own address.",
            column="Override",
        ),
    ] = False
    username: Annotated[
        str,
        "As whom it logs in when it overrides; left out, its address.",
        Asked("User name", "Defaults to the address.", column="Logs in as", is_exact=True),
    ] = ""
    alias_identity: Annotated[
        AliasIdentity,
        "How mail from an alias leaves: rewrite (as the address) or keep (as the alias; needs override).",
        Asked("Mail from an alias leaves as"),
    ] = AliasIdentity.REWRITE
    script: Annotated[
        str | None,
        "Its header rules; a channel without any follows the script default, if there is one.",
        Asked("Script", "Header rules for its mail."),
    ] = None
    mode: Annotated[Mode | None, "Its own delivery mode; left out, that of relay.toml.", Asked("Mode")] = None
    incoming: Mailbox = None
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

    full_name: Annotated[str, "The person's name.", Asked("Full name")] = ""
    group: Annotated[str, "The group of agents, for filters and may_send_as.", Asked("Group")] = ""
    role: Annotated[str, "The person's role in the company, in any words.", Asked("Role")] = ""
    country: Annotated[str, "The person's country.", Asked("Country")] = ""
    language: Annotated[str, "The person's language.", Asked("Language")] = ""
    may_send_as: Annotated[
        tuple[str, ...],
        'As whom else the login may send: names, "group:NAME", or "*" for all.',
        Asked(
            "May also send as",
            "Names of channels or agents, one to a line, whose addresses the agent may use in addition to its own.",
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A login of software that may send as several profiles: names, "group:NAME" or "*"."""

    __pydantic_config__: ClassVar = UNKNOWN_KEYS

    name: str
    may_send_as: Annotated[
        tuple[str, ...],
        'As whom the login may send: names, "group:NAME", or "*" for all.',
        Asked(
            "May send as",
            "One to a line: the name of a channel or agent, group:NAME for all agents of a group, or * for everybody.",
            placeholder="support\ngroup:sales",
        ),
    ] = ()
    bounces: Annotated[
        str | None,
        "For a mail server: the channel or agent its bounces leave from; left out, the one that a bounce is for.",
        Asked(
            "Bounces are sent from",
            "For a mail server that sends through Relay: the channel or agent its bounces are sent from. "
            "Defaults to the channel or agent a bounce is for.",
            placeholder="support",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Named header rules for a channel's mail."""

    __pydantic_config__: ClassVar = UNKNOWN_KEYS

    name: str
    set_headers: Annotated[
        Mapping[str, str],
        "Header fields to set; they replace those of the message.",
        Asked(
            "Set these fields",
            "One to a line, as “Name: value”. A field that the message has already is replaced.",
            placeholder="Organization: Acme Jets",
            is_exact=True,
        ),
    ] = field(default_factory=dict)
    remove_headers: Annotated[
        tuple[str, ...],
        "Header fields to remove.",
        Asked("Remove these fields", "One name to a line.", placeholder="X-Originating-IP", is_exact=True),
    ] = ()


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
