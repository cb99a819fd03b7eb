"""relay.toml: every setting, declared once with its type, default and meaning, and how the file is read.

The dataclasses are the schema of the file, of `relay config show`, of etc/relay.toml and of the reference: a test
compares them. Values are frozen. Durations are seconds (float), sizes are bytes (int).
"""

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from relay.config.endpoint import Endpoint, InheritedSocket, UnixAddress, parse_endpoint
from relay.config.environment import Location, overlaid, variable_of
from relay.config.faults import Fault, Faults
from relay.config.machine import SYSTEM_STATE, default_runtime_dir, default_state_dir, machine_name, short_machine_name
from relay.config.notification import Alert, Webhook, repeated_webhooks, unfit_alerts
from relay.config.schema import Duration, Schema, Size, TableFaults, Unbuilt, read_toml, unbuilt_values, without
from relay.config.types import (
    NEEDS_RESTART,
    Durations,
    EndpointText,
    FileOrEmpty,
    Flag,
    Folder,
    FolderOrEmpty,
    HostName,
    KeySourceText,
    NameServer,
    Network,
    NodeName,
    Number,
    PublicUrl,
    SourceOrEmpty,
    StoreUrl,
    WebAddress,
    Workers,
)
from relay.system.files import lax_mode

_CONFIG: Mapping[str, Any] = MappingProxyType({"extra": "forbid"})
# Keys that are lists of tables, by the names of their fields.
LISTS: Mapping[str, str] = MappingProxyType({"listeners": "listener", "webhooks": "webhook", "alerts": "alert"})
_URL_PASSWORD = re.compile(r"(?<=://)([^:/@]*):.*(?=@)")
_PARAMETER_PASSWORD = re.compile(r"([?&](?:ssl)?password=)[^&]*", re.IGNORECASE)
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_MIB = 1024**2
_STORED = "database"
_LOOPBACK: tuple[Network, ...] = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))
_RETRY = (_MINUTE, 2 * _MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """`[[listener]]`: one address where clients hand mail to us. As many as wanted; this one where none is given."""

    __pydantic_config__: ClassVar = _CONFIG

    name: Annotated[str, "What the log and `relay status` call it.", NEEDS_RESTART] = "local"
    address: Annotated[
        EndpointText,
        "Where it listens: host:port, [v6]:port, unix:/path, or fd:NAME (a socket of systemd).",
        NEEDS_RESTART,
    ] = "127.0.0.1:2525"
    security: Annotated[
        Literal["none", "starttls", "tls"], "How its connections are protected: none, starttls or tls."
    ] = "none"
    auth: Annotated[
        Literal["none", "optional", "required"], "Logins: none, optional, or required (then also for trusted_networks)."
    ] = "optional"
    trusted_networks: Annotated[
        tuple[Network, ...], "Whose clients may send without a login; clients of a unix socket always may."
    ] = _LOOPBACK
    may_send_as: Annotated[
        tuple[str, ...], 'What a client without a login may send as: profile names, "group:NAME", or "*" for all.'
    ] = ("*",)
    users: Annotated[
        Mapping[str, tuple[str, ...]],
        "What each system user may send as through a unix socket; empty: may_send_as for all.",
    ] = field(default_factory=dict)
    bounces: Annotated[
        str,
        "The channel or agent from which the bounces of mail servers behind us leave (null sender, From nobody's); "
        '"": the one that a bounce is for, else the default server\'s address.',
    ] = ""
    proxy_protocol: Annotated[Flag, "Whether a PROXY v1 or v2 header comes first, from proxy_networks only."] = False
    proxy_networks: Annotated[tuple[Network, ...], "Where the proxies are."] = ()
    devices: Annotated[
        Flag,
        "For old printers and scanners: TLS from 1.0 on, addresses without brackets, long lines (which are folded). "
        "Nobody outside of trusted_networks is let in.",
    ] = False

    @property
    def endpoint(self) -> Endpoint:
        """The address, read."""
        return parse_endpoint(self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """`[tls]`: the certificate of the listeners."""

    __pydantic_config__: ClassVar = _CONFIG

    certificate: Annotated[
        FileOrEmpty, "The PEM file with the certificate and its chain; read again when it changes."
    ] = ""
    key: Annotated[FileOrEmpty, "The PEM file with its private key."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """`[delivery]`: how mail travels upstream, and how long we try."""

    __pydantic_config__: ClassVar = _CONFIG

    mode: Annotated[
        Literal["auto", "direct", "queued"],
        "Whether mail is stored on its way: auto, direct or queued; a profile may have its own.",
    ] = "auto"
    patience: Annotated[Duration, "How long a client waits for the upstream's answer in mode auto."] = 15.0
    retry: Annotated[Durations, "The pauses between attempts; the last repeats."] = _RETRY
    warn_after: Annotated[Duration, "When the sender hears of a delay; time spent held does not count."] = 4 * _HOUR
    give_up_after: Annotated[Duration, "When the sender hears of a failure; time spent held does not count."] = 4 * _DAY
    probe: Annotated[Durations, "The pauses between logins of a held account; the last repeats."] = (
        15 * _MINUTE,
        _HOUR,
        4 * _HOUR,
    )
    unknown: Annotated[
        Literal["retry", "hold"],
        "What follows when no answer comes after the final dot: retry (once, then hold) or hold.",
    ] = "retry"
    unknown_pause: Annotated[Duration, "How long that one retry waits."] = 30 * _MINUTE
    connect_timeout: Annotated[Duration, "How long connecting to an upstream server may take."] = 30.0
    reply_timeout: Annotated[
        Duration, "How long an upstream server may take to answer; after the final dot it has 10 minutes."
    ] = 5 * _MINUTE
    free_space: Annotated[Size, "How much disk must be free for anything new to be accepted."] = 64 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`[policy]`: what happens to mail that does not fit the directory."""

    __pydantic_config__: ClassVar = _CONFIG

    unknown_sender: Annotated[
        Literal["reject", "default"],
        "What becomes of a sender that is nobody's: reject, or default (the default server's account and address).",
    ] = "reject"
    from_mismatch: Annotated[
        Literal["rewrite", "reject"], "What becomes of a From header that names somebody else: rewrite or reject."
    ] = "rewrite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`[limits]`: how much we take."""

    __pydantic_config__: ClassVar = _CONFIG

    message_size: Annotated[Size, "How large a message may be."] = 36 * _MIB
    recipients: Annotated[Number, "How many recipients a message may have."] = 1000
    connections: Annotated[Number, "How many connections are open at once, over all listeners."] = 1000
    connections_per_client: Annotated[
        Number, "How many of them one client address may have; trusted networks are exempt."
    ] = 250
    login_failures: Annotated[Number, "How many bad logins a client address may make in 5 minutes."] = 5
    memory_per_message: Annotated[
        Size, "How much of a message stays in memory; the rest goes through a temporary file in state_dir."
    ] = _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """`[secrets]`: where the key to the vault is."""

    __pydantic_config__: ClassVar = _CONFIG

    master_key: Annotated[
        KeySourceText,
        "Where the key comes from: file:PATH (in state_dir, made if missing), credential:NAME or env:NAME.",
        NEEDS_RESTART,
    ] = "file:master.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """`[web]`: the pages, the API and the metrics."""

    __pydantic_config__: ClassVar = _CONFIG

    address: Annotated[WebAddress, 'Where they are: host:port; "" turns them off.', NEEDS_RESTART] = "127.0.0.1:8025"
    public_url: Annotated[PublicUrl, "How links to the pages begin."] = "http://127.0.0.1:8025"
    proxy_networks: Annotated[
        tuple[Network, ...], "Where the proxies are whose X-Forwarded-For says who asks.", NEEDS_RESTART
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """`[dns]`: whom the doctor asks."""

    __pydantic_config__: ClassVar = _CONFIG

    servers: Annotated[tuple[NameServer, ...], 'The "host:port" of each; [] takes those of the system.'] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """`[log]`: what is told, to stderr."""

    __pydantic_config__: ClassVar = _CONFIG

    format: Annotated[
        Literal["auto", "console", "json"],
        "How it is written: auto (console on a terminal, else json), console or json.",
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], "How much is logged: debug, info, warning or error."
    ] = "info"
    keep_messages: Annotated[Duration, "How long the message history is kept."] = 90 * _DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole of relay.toml."""

    __pydantic_config__: ClassVar = {**_CONFIG, "alias_generator": lambda name: LISTS.get(name, name)}

    hostname: Annotated[
        HostName, 'Our name in the greeting, EHLO and Received; "" takes this machine\'s full name.', NEEDS_RESTART
    ] = ""
    state_dir: Annotated[
        Folder,
        "Where directory.toml, relay.db and master.key are; for a normal user ~/.local/share/relay.",
        NEEDS_RESTART,
    ] = SYSTEM_STATE
    runtime_dir: Annotated[
        FolderOrEmpty,
        'Where control.sock and submit.sock are; "" takes /run/relay where the service has it, else state_dir.',
        NEEDS_RESTART,
    ] = ""
    directory: Annotated[
        str, 'Who may send and how: a file in state_dir, an absolute path, or "database".', NEEDS_RESTART
    ] = "directory.toml"
    store: Annotated[
        StoreUrl,
        "Where secrets and mail are kept: sqlite:PATH in state_dir, or postgresql://user@host/db (docs/cluster.md).",
        NEEDS_RESTART,
    ] = "sqlite:relay.db"
    store_password_from: Annotated[
        SourceOrEmpty,
        'The password for PostgreSQL: credential:NAME, file:PATH or env:NAME; "" where the URL or ~/.pgpass has it.',
        NEEDS_RESTART,
    ] = ""
    node: Annotated[
        NodeName,
        'The name of this relay among those at one store (docs/cluster.md); "" takes that of this machine.',
        NEEDS_RESTART,
    ] = ""
    workers: Annotated[Workers, 'How many processes share the listeners; "auto" takes one per core.', NEEDS_RESTART] = 1
    listeners: tuple[Listener, ...] = (Listener(),)
    tls: Tls = Tls()
    delivery: Delivery = Delivery()
    policy: Policy = Policy()
    limits: Limits = Limits()
    secrets: Secrets = Secrets()
    web: Web = Web()
    dns: Dns = Dns()
    alerts: tuple[Alert, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    log: Log = Log()

    @property
    def worker_count(self) -> int:
        """How many processes hand over mail."""
        return self.workers if self.workers != "auto" else len(os.sched_getaffinity(0))

    @property
    def effective_hostname(self) -> str:
        """Our name: as set, or the machine's. The first call may ask DNS; later ones answer at once."""
        return self.hostname or machine_name()

    @property
    def is_directory_stored(self) -> bool:
        """Whether the store keeps the directory, and no file."""
        return self.directory == _STORED

    @property
    def effective_node(self) -> str:
        """Our name among the relays at one store."""
        return self.node or short_machine_name()

    @property
    def directory_path(self) -> Path:
        """Where directory.toml is; the one to import from and export to, where the store keeps the directory."""
        return self.state_dir / ("directory.toml" if self.is_directory_stored else self.directory)

    @property
    def store_name(self) -> str:
        """What people call the store: its file, or its URL without a password."""
        return str(self.database_path or without_password(self.store))

    @property
    def directory_name(self) -> str:
        """How faults call the directory: its file, or where in the database it is."""
        return f"the directory in {self.store_name}" if self.is_directory_stored else str(self.directory_path)

    @property
    def database_path(self) -> Path | None:
        """Where the file of the store is; None where it is in PostgreSQL."""
        kind, _, place = self.store.partition(":")
        return self.state_dir / place if kind == "sqlite" else None

    @property
    def master_key_path(self) -> Path | None:
        """Where the master key's file is; None where the key comes from elsewhere."""
        kind, _, place = self.secrets.master_key.partition(":")
        return self.state_dir / place if kind == "file" else None

    @property
    def control_socket(self) -> Path:
        """Where commands speak to a running relay."""
        return Path(self.runtime_dir or self.state_dir) / "control.sock"

    @property
    def submit_socket(self) -> Path:
        """Where `relay sendmail` hands over."""
        return Path(self.runtime_dir or self.state_dir) / "submit.sock"


_SCHEMA = Schema(Settings)


def load_settings(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of a file (None: the defaults), with the folders as this user has them.

    What the environment says counts before the file. Raises Faults with every fault of both.
    """
    file = str(path) if path else "relay.toml"
    table, variables, strange = overlaid(read_toml(path) if path else {}, environ, Settings, LISTS)
    if table.get("listener") == []:
        del table["listener"]
    settings, found, places = _read(table, variables)
    at_fault = {key for key, _ in found}
    rules = (
        _repeated_listeners,
        _unfit_listeners,
        _incomplete_tls,
        lambda read: repeated_webhooks(read.webhooks),
        lambda read: unfit_alerts(read.alerts),
        _not_in_this_version,
    )
    found += [(key, message) for rule in rules for key, message in rule(settings) if key not in at_fault]
    if found or strange:
        faults = [Fault(places.get(key) or file, key, message) for key, message in found]
        raise Faults(sorted([*faults, *(Fault(variable, "", message) for variable, message in strange)]))
    state_dir = settings.state_dir if "state_dir" in table else default_state_dir(environ, os.geteuid())
    runtime_dir = settings.runtime_dir or default_runtime_dir(environ, state_dir)
    return replace(settings, state_dir=state_dir, runtime_dir=str(runtime_dir))


def as_table(settings: Settings) -> dict[str, Any]:
    """Return the table that reads as these settings: every key, as relay.toml writes it."""
    return _SCHEMA.write(settings)


def shown_table(settings: Settings) -> dict[str, Any]:
    """Return the settings in effect for people's eyes: the name we really have, no password."""
    store = without_password(settings.store)
    return as_table(replace(settings, hostname=settings.effective_hostname, store=store))


def without_password(url: str) -> str:
    """Return a URL of PostgreSQL as people may see it. A password may also stand behind the question mark."""
    return _PARAMETER_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\1:***", url))


def check_modes(settings: Settings) -> tuple[Fault, ...]:
    """Return a fault, with the command that corrects it, for each file of secrets that others may open."""
    database = settings.database_path
    files = sorted(database.parent.glob(f"{database.name}*")) if database else []
    paths = [settings.state_dir, settings.master_key_path, *files]
    return tuple(Fault(str(path), "", lax) for path in paths if path and (lax := lax_mode(path)))


def left_out(settings: Settings, opened: Sequence[str] = ()) -> str:
    """Return a sentence where the [[listener]] tables do without the address that a relay has without any, else "".

    `opened`: the addresses of all sockets, once they are open.
    """
    default = Listener().address
    port = default.rpartition(":")[2]
    named = [str(listener.endpoint) for listener in settings.listeners]
    heard = {*named, *opened}
    # A socket of systemd hears both versions of IP, ours one.
    if heard & {default, f"0.0.0.0:{port}", f"localhost:{port}"} or f"[::]:{port}" in heard - {*named}:
        return ""
    may_be_passed = not opened and any(
        isinstance(listener.endpoint, InheritedSocket) for listener in settings.listeners
    )
    unless = ", unless systemd opens it" if may_be_passed else ""
    return (
        f"it listens at {' and '.join(named)}; {default}, where it listens without a [[listener]], "
        f"is not among them{unless}: programs of this machine that send there find nobody"
    )


def where_from(path: Path | None, environ: Mapping[str, str] = os.environ) -> Mapping[Location, str]:
    """Return which variable each value comes from that the environment says, by its place in the table."""
    return overlaid(read_toml(path) if path else {}, environ, Settings, LISTS).variables


def _read(
    table: dict[str, Any], variables: Mapping[Location, str]
) -> tuple[Settings, list[tuple[str, str]], dict[str, str]]:
    """Return the settings and the faults of the table; what is at fault has its default, so that all is checked.

    The last is which variable says what is at fault, by its key.
    """
    try:
        return _SCHEMA.read(table), [], {}
    except TableFaults as error:
        sound = without(table, [location for _, _, location in error.faults])
        places = {key: variable_of(location, variables) for key, _, location in error.faults}
        return _SCHEMA.read(sound), [(key, message) for key, message, _ in error.faults], places


def _repeated_listeners(settings: Settings) -> Iterator[tuple[str, str]]:
    names: set[str] = set()
    addresses: dict[str, str] = {}
    for listener in settings.listeners:
        key = f"listener.{listener.name}"
        if listener.name in names:
            yield (
                f"{key}.name",
                f"two listeners are called '{listener.name}'; give each a name of its own: name = \"…\"",
            )
        names.add(listener.name)
        address = str(listener.endpoint)
        if address in addresses:
            yield f"{key}.address", f"listener '{addresses[address]}' has this address already; choose another"
        if not address.endswith(":0"):
            addresses.setdefault(address, listener.name)


def _unfit_listeners(settings: Settings) -> Iterator[tuple[str, str]]:
    for listener in settings.listeners:
        key = f"listener.{listener.name}"
        is_unix = isinstance(listener.endpoint, UnixAddress)
        # What an fd:NAME is, the start finds out.
        may_be_unix = is_unix or isinstance(listener.endpoint, InheritedSocket)
        if listener.users and not may_be_unix:
            yield f"{key}.users", "only a unix socket knows its users; choose an address unix:/path or remove the key"
        if listener.proxy_protocol and is_unix:
            yield f"{key}.proxy_protocol", "no proxy comes through a unix socket; remove the key"
        elif listener.proxy_protocol and not listener.proxy_networks:
            yield f"{key}.proxy_networks", "proxy_protocol needs to know where the proxies are; name their networks"
        elif listener.proxy_networks and not listener.proxy_protocol:
            yield f"{key}.proxy_protocol", "proxy_networks are for proxy_protocol = true; set it or remove them"
        if listener.devices and is_unix:
            yield f"{key}.devices", "no device comes through a unix socket; remove the key or choose another address"
        elif listener.devices and any(network.prefixlen == 0 for network in listener.trusted_networks):
            yield f"{key}.trusted_networks", "devices = true is for networks that you name, not for all; name theirs"


def _incomplete_tls(settings: Settings) -> Iterator[tuple[str, str]]:
    for key, path, other in (
        ("certificate", settings.tls.certificate, settings.tls.key),
        ("key", settings.tls.key, settings.tls.certificate),
    ):
        asking = [listener for listener in settings.listeners if listener.security != "none"]
        if asking and not path:
            wanted = f"listener '{asking[0].name}' has security = \"{asking[0].security}\""
            yield f"tls.{key}", f"{wanted}, which needs this file; name it"
        elif other and not path:
            yield f"tls.{key}", "a certificate and its key belong together; name this file too"


# What is read but not built yet.
_UNBUILT: Mapping[str, Unbuilt] = {}


def _not_in_this_version(settings: Settings) -> Iterator[tuple[str, str]]:
    yield from unbuilt_values(as_table(settings), as_table(Settings()), _UNBUILT)
