"""The directory's values: what directory.toml says, frozen and valid by type (DESIGN: servers, channels, agents).

A field is declared once, here: its name, type and default are the schema of the file, of the commands and of the
pages. What no type can say (references, uniqueness, one default) is in `rules`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from annotated_types import Ge, Le
from pydantic import Strict

from relay.mail.address import Address, AddressError
from relay.schema import Size

Flag: TypeAlias = Annotated[bool, Strict()]
Count: TypeAlias = Annotated[int, Strict(), Ge(0)]
Port: TypeAlias = Annotated[int, Strict(), Ge(1), Le(65535)]

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

    match: str
    means: Meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """`[servers.NAME.oauth]`: where and as whom tokens are asked for. No client_id: no app is registered there yet."""

    __pydantic_config__: ClassVar = _CONFIG

    provider: Literal["microsoft", "google", "custom"]
    client_id: str = ""
    tenant: str = ""
    flow: Literal["code", "device", "client_credentials"] = "code"
    authorize_url: str = ""
    token_url: str = ""
    device_url: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """`incoming`: the mailbox where mail for an address arrives."""

    __pydantic_config__: ClassVar = _CONFIG

    host: str
    protocol: Literal["imap", "pop3"] = "imap"
    security: Literal["none", "starttls", "tls"] = "tls"
    port: Port | None = None
    ca_file: str = ""
    username: str = ""
    watch_bounces: Flag = False
    password: str = field(default="", repr=False)
    password_from: str = ""

    @property
    def effective_port(self) -> int:
        """The port that is connected to: as set, or by protocol and security (RFC 8314, RFC 9051, RFC 1939)."""
        secure, plain = (993, 143) if self.protocol == "imap" else (995, 110)
        return self.port or (secure if self.security == "tls" else plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An upstream SMTP submission service. `name` comes from the table's header, not from a key."""

    __pydantic_config__: ClassVar = _CONFIG

    name: str
    host: str
    security: Security = Security.STARTTLS
    port: Port | None = None
    auth: Auth = Auth.AUTO
    username: str = ""
    address: str = ""
    internal: Flag = False
    verify_tls: Flag = True
    ca_file: str = ""
    allow_plaintext_password: Flag = False
    null_sender: Flag = True
    chunking: Flag = False
    max_connections: Annotated[int, Strict(), Ge(1)] = 4
    max_messages_per_connection: Annotated[int, Strict(), Ge(1)] = 100
    recipients_per_message: Count = 0
    message_size: Size = 0
    messages_per_minute: Count = 0
    recipients_per_day: Count = 0
    shared_limits: Flag = False
    answers: tuple[AnswerRule, ...] = ()
    oauth: OAuthClient | None = None
    incoming: Incoming | None = None
    password: str = field(default="", repr=False)
    password_from: str = ""

    @property
    def effective_port(self) -> int:
        """The port that is connected to: as set, or as it follows the security."""
        return self.port or self.security.port

    @property
    def identity(self) -> Address | None:
        """The address that mail of its own account leaves with; None for a server without one."""
        return _address_or_none(self.address or self.username)

    def scope(self, account: "Account") -> str:
        """Whose limits count for an account of this server: "SERVER/USERNAME", or "SERVER" for all of them together."""
        return self.name if self.shared_limits else str(account)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What channels and agents have in common: an address, its aliases, and how it sends."""

    __pydantic_config__: ClassVar = _CONFIG
    kind: ClassVar[ProfileKind]

    name: str
    address: str
    aliases: tuple[str, ...] = ()
    server: str | None = None
    override: Flag = False
    username: str = ""
    alias_identity: AliasIdentity = AliasIdentity.REWRITE
    script: str | None = None
    mode: Mode | None = None
    incoming: Incoming | None = None
    password: str = field(default="", repr=False)
    password_from: str = ""

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

    full_name: str = ""
    group: str = ""
    role: str = ""
    country: str = ""
    language: str = ""
    may_send_as: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A login of software that may send as several profiles: names, "group:NAME" or "*"."""

    __pydantic_config__: ClassVar = _CONFIG

    name: str
    may_send_as: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Named header rules for a channel's mail."""

    __pydantic_config__: ClassVar = _CONFIG

    name: str
    set_headers: Mapping[str, str] = field(default_factory=dict)
    remove_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """Whom we log in as. Holds, pace and budgets belong to it. `username` is "" where the server wants no login."""

    server: str
    username: str

    def __str__(self) -> str:
        return f"{self.server}/{self.username}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The whole directory. Every reference in it is good: `rules` made sure before it exists."""

    default_server: str | None = None
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
