"""What must hold between the entries of directory.toml, and the one way from its tables to a Directory.

Each rule is one function that yields (key, sentence) for every place where it is broken. Rules look at the entries
that are well-formed by themselves; what is malformed has its fault already. Those about servers stand in `servers`.
What must hold between relay.toml and directory.toml is at the end (`check_together`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.config.faults import Fault, Faults
from relay.config.schema import no_such, show
from relay.config.settings import Settings
from relay.directory.client import ANYONE, GROUP
from relay.directory.directory import Directory
from relay.directory.model import AliasIdentity, Application, Profile, Server
from relay.directory.reading import NOTHING_KNOWN, Findings, Reading, read_tables
from relay.directory.routing import UnknownSender
from relay.directory.rules.servers import incoming_faults, needs_of, oauth_faults, password_faults, server_faults
from relay.mail.address import Address, AddressError, domain_key, without_case
from relay.mail.outgoing import is_forbidden, valid_field_name, valid_field_value

LOGINS = ("channels", "agents", "applications")
"""The tables of those who can have a login."""


def parse_directory(
    data: Mapping[str, Any], file: str = "directory.toml", known: Mapping[str, Mapping[str, Any]] = NOTHING_KNOWN
) -> Directory:
    """Return the directory that the tables of a file describe. Raises Faults with everything that is wrong.

    `known` are values, by their tables and names, of entries that are the same as when these were read.
    """
    reading = read_tables(data, known)
    found = (finding for rule in _RULES for finding in rule(reading))
    findings = [*reading.faults, *((key, message) for key, message in found if key not in reading.unread)]
    if findings:
        raise Faults(sorted({Fault(file, key, message) for key, message in findings}))
    return reading.directory


def is_sound_apart(directory: Directory) -> bool:
    """Whether no rule is broken that looks at each channel, agent and application with servers and scripts alone.

    Where servers and scripts are those of a directory without faults, the others that changed are enough.
    """
    names = {table: frozenset(getattr(directory, table)) for table in ("servers", "scripts")}
    reading = Reading(directory, names)
    return not any(True for rule in _APART for _ in rule(reading))


def key_of(profile: Profile) -> str:
    """Return where a profile stands in the file: "channels.support"."""
    return f"{profile.kind}s.{profile.name}"


def _holder_key(holder: Server | Profile) -> str:
    """Return where the holder of a secret stands in the file."""
    return f"servers.{holder.name}" if isinstance(holder, Server) else key_of(holder)


def _default_is_named(reading: Reading) -> Findings:
    servers, default = reading.names["servers"], reading.directory.default_server
    if default is None and servers:
        yield (
            "default_server",
            f'it is missing; name the server of all who choose none: default_server = "{min(servers)}"',
        )
    if default is not None and default not in servers and "servers" not in reading.unread:
        yield "default_server", no_such("server", default, servers)


def _addresses_are_unique(reading: Reading) -> Findings:
    """An address picks one profile, so it belongs to one."""
    owners: dict[str, Profile] = {}
    for profile in reading.directory.profiles():
        for key, text in _addresses_of(profile):
            try:
                owner = owners.setdefault(_compared(text, is_alias=key == "aliases"), profile)
            except AddressError as error:
                yield f"{key_of(profile)}.{key}", str(error)
                continue
            if owner is not profile:
                taken = f"{text} belongs to {owner.kind} '{owner.name}' already; take it from one of them"
                yield f"{key_of(profile)}.{key}", taken


def _references_are_good(reading: Reading) -> Findings:
    servers, scripts = reading.names["servers"], reading.names["scripts"]
    for profile in reading.directory.profiles():
        if profile.server is not None and profile.server not in servers and "servers" not in reading.unread:
            yield f"{key_of(profile)}.server", no_such("server", profile.server, servers)
        if profile.script is not None and profile.script not in scripts and "scripts" not in reading.unread:
            yield f"{key_of(profile)}.script", no_such("script", profile.script, scripts)


def _profiles_have_a_server(reading: Reading) -> Findings:
    """One sentence for all: a directory of ten thousand agents without a server has one fault, not ten thousand."""
    first = next(reading.directory.profiles(), None)
    if first is not None and not reading.names["servers"] and "servers" not in reading.unread:
        yield key_of(first), "there is no server to send through; add [servers.NAME] and make it default_server"


def _overrides_are_possible(reading: Reading) -> Findings:
    for profile in reading.directory.profiles():
        name = profile.server or reading.directory.default_server or ""
        server = reading.directory.servers.get(name)
        if profile.override and server is not None and server.internal:
            which = f"server '{name}'" if profile.server else f"the default server '{name}'"
            yield (
                f"{key_of(profile)}.override",
                f"{which} is internal, where no profile has its own account; remove override or choose another server",
            )
        if profile.alias_identity is AliasIdentity.KEEP and not profile.override:
            yield (
                f"{key_of(profile)}.alias_identity",
                "'keep' needs override = true; without it mail leaves with the server's address",
            )


def _secrets_have_one_source(reading: Reading) -> Findings:
    directory = reading.directory
    holders: list[Server | Profile] = [*directory.servers.values(), *directory.profiles()]
    for holder in holders:
        key = _holder_key(holder)
        yield from password_faults(key, holder)
        if any(ord(character) < 32 or ord(character) == 127 for character in holder.username):
            yield f"{key}.username", "a user name holds no control characters; write it on one line"


def _scripts_are_allowed(reading: Reading) -> Findings:
    for script in reading.directory.scripts.values():
        key = f"scripts.{script.name}"
        for name, value in script.set_headers.items():
            yield from _field(f"{key}.set_headers", name)
            if not valid_field_value(value):
                yield f"{key}.set_headers.{name}", "the text of a header field is one line without control characters"
        for name in script.remove_headers:
            yield from _field(f"{key}.remove_headers", name)


def _field(key: str, name: str) -> Findings:
    if not valid_field_name(name):
        yield key, f"{show(name)} cannot be the name of a header field; write letters, digits and hyphens"
    elif is_forbidden(name):
        yield key, f"{show(name)} is for Relay alone to set or remove; take it out"


def _addresses_of(profile: Profile) -> Findings:
    yield "address", profile.address
    for alias in profile.aliases:
        yield "aliases", alias


def _compared(text: str, *, is_alias: bool) -> str:
    if is_alias and text.startswith("@"):
        return f"@{domain_key(text[1:])}"
    return Address.parse(text).key


@dataclass(frozen=True, slots=True)
class Sendable:
    """What `may_send_as` can name beside "*": the channels and agents, and the groups that agents are in."""

    profiles: frozenset[str]
    groups: frozenset[str]

    @classmethod
    def of(cls, directory: Directory) -> "Sendable":
        """Return what can be named in a directory."""
        return cls(frozenset(profile.name for profile in directory.profiles()), _groups(directory))

    def fault(self, name: str) -> str:
        """Return the sentence about a name in `may_send_as` that means nobody; "" for one that means somebody."""
        if name.startswith(GROUP):
            group = name.removeprefix(GROUP)
            return "" if group in self.groups else no_such("group", group, self.groups)
        return "" if name == ANYONE or name in self.profiles else no_such("channel or agent", name, self.profiles)


def _login_faults(reading: Reading) -> Findings:
    """Yield (key, sentence) for everything that is wrong with a login's name or with whom it may send as."""
    yield from _names_are_unique(reading)
    yield from _names_are_not_addresses_of_others(reading)
    yield from _names_somebody(reading)


def _names_are_unique(reading: Reading) -> Findings:
    """Channels, agents and applications share one set of names, because all of them log in by name."""
    for number, table in enumerate(LOGINS):
        before = LOGINS[:number]
        taken = frozenset[str]().union(*(reading.names[table] & reading.names[other] for other in before))
        for name in sorted(taken):
            owner = next(other for other in before if name in reading.names[other])
            yield f"{table}.{name}", f"this name belongs to {owner.removesuffix('s')} '{name}' already; choose another"


def _names_are_not_addresses_of_others(reading: Reading) -> Findings:
    """People log in by name or by address, so a name must not be another's address."""
    directory = reading.directory
    entries: list[tuple[str, Profile | Application]] = [
        *((f"{profile.kind}s", profile) for profile in directory.profiles()),
        *(("applications", application) for application in directory.applications.values()),
    ]
    if not any("@" in entry.name for _, entry in entries):
        return
    owners = {compared(profile.address): profile for profile in directory.profiles()}
    for table, entry in entries:
        owner = owners.get(compared(entry.name), entry) if "@" in entry.name else entry
        if owner is not entry and isinstance(owner, Profile):
            yield f"{table}.{entry.name}", f"this name is the address of {owner.kind} '{owner.name}'; choose another"


def _names_somebody(reading: Reading) -> Findings:
    """Yield the faults of `may_send_as` and `bounces` that name nobody.

    Whoever has a fault of its own counts as somebody, so that no second fault follows from that one.
    """
    directory = reading.directory
    profiles = reading.names["channels"] | reading.names["agents"]
    sendable = Sendable(profiles, _groups(directory))
    if not reading.unread.isdisjoint({"channels", "agents"}) or any(key.endswith(".group") for key in reading.unread):
        return
    for table, entries in (("agents", directory.agents), ("applications", directory.applications)):
        for entry in entries.values():
            for name in entry.may_send_as:
                if fault := sendable.fault(name):
                    yield f"{table}.{entry.name}.may_send_as", fault
    for application in directory.applications.values():
        if application.bounces is not None and application.bounces not in profiles:
            fault = no_such("channel or agent", application.bounces, profiles)
            yield f"applications.{application.name}.bounces", fault


def compared(text: str) -> str:
    """Return what a name with an "@" in it and an address share where they are the same for a login."""
    try:
        return Address.parse(text).key
    except AddressError:  # as an address it has its fault already, and as a name it is nobody's address
        return without_case(text)


def _groups(directory: Directory) -> frozenset[str]:
    return frozenset(agent.group for agent in directory.agents.values() if agent.group)


def inline_passwords(directory: Directory) -> Iterator[str]:
    """Yield the key of each password that stands there: "channels.support.password"."""
    holders: list[Server | Profile] = [*directory.servers.values(), *directory.profiles()]
    yield from (f"{_holder_key(holder)}.password" for holder in holders if holder.password)
    for holder in holders:
        if holder.incoming and holder.incoming.password:
            yield f"{_holder_key(holder)}.incoming.password"


# Each looks at an entry with the servers and scripts, and at no other channel, agent or application.
_APART: tuple[Callable[[Reading], Findings], ...] = (
    _default_is_named,
    _references_are_good,
    _profiles_have_a_server,
    _overrides_are_possible,
    _secrets_have_one_source,
    _scripts_are_allowed,
    server_faults,
    oauth_faults,
    incoming_faults,
)
# What these say of the next directory, `relay.directory.rules.incremental` says, too.
_TOGETHER: tuple[Callable[[Reading], Findings], ...] = (_addresses_are_unique, _login_faults)
_RULES = (*_APART, *_TOGETHER)


def check_together(
    settings: Settings, directory: Directory, *, settings_file: str = "relay.toml", directory_file: str = ""
) -> tuple[Fault, ...]:
    """Return the faults of two files that are each good by themselves; the file names are for the faults."""
    in_settings = [*_may_send_as(settings, directory), *_bounces(settings, directory)]
    faults = [Fault(settings_file, key, message) for key, message in in_settings]
    place = directory_file or settings.directory_name
    faults += [Fault(place, key, message) for key, message in _default_account(settings, directory)]
    return tuple(sorted(faults))


def warnings_together(settings: Settings, directory: Directory, settings_file: str = "relay.toml") -> tuple[Fault, ...]:
    """Return what is not good about two files that can be used together.

    A directory without a server yet is no fault, whatever the settings say: it is there to be filled.
    """
    if UnknownSender(settings.policy.unknown_sender) is UnknownSender.DEFAULT and directory.default_server is None:
        sentence = "'default' has no effect yet, because there is no server; add one: relay server add"
        return (Fault(settings_file, "policy.unknown_sender", sentence),)
    return ()


def _default_account(settings: Settings, directory: Directory) -> Iterator[tuple[str, str]]:
    server = directory.servers.get(directory.default_server or "")
    if UnknownSender(settings.policy.unknown_sender) is UnknownSender.DEFAULT and server is not None:
        for key, message in needs_of(server, 'a sender that is nobody\'s (unknown_sender = "default")'):
            yield f"servers.{server.name}.{key}", message


def _bounces(settings: Settings, directory: Directory) -> Iterator[tuple[str, str]]:
    for listener in settings.listeners:
        if listener.bounces and directory.profile(listener.bounces) is None:
            names = [profile.name for profile in directory.profiles()]
            yield f"listener.{listener.name}.bounces", no_such("channel or agent", listener.bounces, names)


def _may_send_as(settings: Settings, directory: Directory) -> Iterator[tuple[str, str]]:
    rows: dict[str, Sequence[str]] = {}
    for listener in settings.listeners:
        key = f"listener.{listener.name}"
        rows[f"{key}.may_send_as"] = listener.may_send_as
        rows |= {f"{key}.users.{user}": names for user, names in listener.users.items()}
    if all(name == ANYONE for names in rows.values() for name in names):
        return  # nobody of a hundred thousand needs to be looked at
    sendable = Sendable.of(directory)
    for place, names in rows.items():
        yield from ((place, fault) for name in names if (fault := sendable.fault(name)))
