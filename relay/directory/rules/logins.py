"""What must hold for logins: which names they have, and that `may_send_as` names who is there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from relay.config.schema import no_such
from relay.directory.client import ANYONE, GROUP
from relay.directory.model import Application, Directory, Profile
from relay.directory.reading import Reading
from relay.mail.address import Address, AddressError, without_case

Findings: TypeAlias = Iterator[tuple[str, str]]

LOGINS = ("channels", "agents", "applications")
"""The tables of those who can have a login."""


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


def login_faults(reading: Reading) -> Findings:
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
