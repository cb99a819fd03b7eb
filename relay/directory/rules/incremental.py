"""From a directory without faults to the next one, of which a few entries are others: only these are looked at.

What each rule needs to know of all the others is kept beside the directory. Whatever is not as it should be, and
whatever is hard to say, is left to `relay.directory.rules.validation`, which looks at everything and has the words for
it: here it is never said what is wrong, only that nothing is. A test takes the two for each other.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from relay.directory.client import ANYONE, GROUP
from relay.directory.directory import Directory
from relay.directory.index import AddressTaken, Holder, Index
from relay.directory.model import Agent, Application, Profile
from relay.directory.reading import Reading, read_tables
from relay.directory.rules.validation import LOGINS, compared, is_sound_apart
from relay.mail.address import AddressError

TABLES = ("servers", "channels", "agents", "applications", "scripts")


class Entry(NamedTuple):
    """An entry that is another now: `value` is its table as plain values.

    `is_gone`: there is none any more; `was_gone`: there was none meanwhile, so that it comes behind all others.
    """

    table: str
    name: str
    value: Any
    is_gone: bool
    was_gone: bool


@dataclass(frozen=True, slots=True)
class CheckedDirectory:
    """A directory without faults. `CheckedDirectory.of` makes one, `after` the next.

    `groups`: how many agents are in each; `named`: how often `may_send_as` and `bounces` have each name; `foreign`: the
    names with an "@" that are no own address of who has them, and what they are compared by.
    """

    directory: Directory
    index: Index
    groups: Mapping[str, int]
    named: Mapping[str, int]
    foreign: Mapping[str, str]

    @classmethod
    def of(cls, directory: Directory) -> "CheckedDirectory":
        """Return a directory in which all rules hold, with what the next one needs of it."""
        index = Index.of(directory)
        holders: list[Holder] = [*directory.profiles(), *directory.applications.values()]
        return cls(directory, index, Counter(_groups(holders)), Counter(_named(holders)), _foreign(index, holders))

    def after(self, entries: Iterable[Entry], default_server: object) -> "CheckedDirectory | None":
        """Return the next directory, None where it has faults, or it is not certain that it has none."""
        entries = list(entries)
        tables: dict[str, dict[str, Any]] = {}
        for entry in entries:
            tables.setdefault(entry.table, {})
            if not entry.is_gone:
                tables[entry.table][entry.name] = entry.value
        reading = read_tables({"default_server": default_server, **tables})
        if reading.faults:
            return None
        directory = self._with(entries, reading.directory)
        return self._checked(directory, reading.directory, entries) if self._is_sound(directory, reading) else None

    def _with(self, entries: Iterable[Entry], read: Directory) -> Directory:
        """Return the directory with entries that were read."""
        made: dict[str, dict[str, Any]] = {}
        for table, name, _, is_gone, was_gone in entries:
            if table not in made:
                made[table] = dict(getattr(self.directory, table))
            if is_gone or was_gone:
                made[table].pop(name, None)
            if not is_gone:
                made[table][name] = getattr(read, table)[name]
        return replace(self.directory, default_server=read.default_server, **made)

    def _is_sound(self, directory: Directory, reading: Reading) -> bool:
        """Whether each entry by itself breaks no rule."""
        before, read = self.directory, reading.directory
        is_same = (
            directory.servers is before.servers
            and directory.scripts is before.scripts
            and directory.default_server == before.default_server
        )
        # Another server may be wrong for any profile.
        return is_sound_apart(replace(read, servers=before.servers, scripts=before.scripts) if is_same else directory)

    def _checked(self, directory: Directory, read: Directory, entries: Iterable[Entry]) -> "CheckedDirectory | None":
        """Return the directory where its channels, agents and applications go together."""
        changed = [entry for entry in entries if entry.table in LOGINS]
        gone = [old for entry in changed if (old := getattr(self.directory, entry.table).get(entry.name))]
        come: list[Holder] = [*read.profiles(), *read.applications.values()]
        groups = _count(self.groups, _groups(gone), _groups(come))
        named = _count(self.named, _named(gone), _named(come))
        lost = {old.name for old in gone} | {GROUP + group for group in _groups(gone)}
        if any(not _is_there(directory, groups, name) and name in named for name in lost):
            return None
        if not all(_is_there(directory, groups, name) for name in _named(come)):
            return None
        senders = [one.bounces for one in read.applications.values() if one.bounces is not None]
        if any(directory.profile(name) is None for name in senders):
            return None
        if any(sum(entry.name in getattr(directory, table) for table in LOGINS) > 1 for entry in changed):
            return None
        try:
            index = self.index.after(directory, gone, come)
        except (AddressError, AddressTaken):
            return None
        foreign = {**self.foreign}
        for old in gone:
            foreign.pop(old.name, None)
        foreign |= _foreign(index, come)
        return (
            CheckedDirectory(directory, index, groups, named, foreign)
            if _own_their_names(index, foreign, come)
            else None
        )


def _own_their_names(index: Index, foreign: Mapping[str, str], come: Iterable[Holder]) -> bool:
    """Whether no name is the address of somebody else."""
    own = index.addresses.own
    addresses = {compared(holder.address) for holder in come if isinstance(holder, Profile)}
    is_name = not addresses.isdisjoint(foreign.values())
    return not is_name and not any(foreign.get(holder.name) in own for holder in come)


def _foreign(index: Index, holders: Iterable[Holder]) -> dict[str, str]:
    own = index.addresses.own
    found = ((holder, compared(holder.name)) for holder in holders if "@" in holder.name)
    return {holder.name: key for holder, key in found if own.get(key) is not holder}


def _groups(holders: Iterable[Holder]) -> Iterator[str]:
    return (holder.group for holder in holders if isinstance(holder, Agent) and holder.group)


def _named(holders: Iterable[Holder]) -> Iterator[str]:
    for holder in holders:
        if isinstance(holder, Agent | Application):
            yield from holder.may_send_as
        if isinstance(holder, Application) and holder.bounces is not None:
            yield holder.bounces


def _count(known: Mapping[str, int], gone: Iterable[str], come: Iterable[str]) -> Mapping[str, int]:
    """Return how often there is what is counted, without what is there no more."""
    counts = Counter(known)
    counts.subtract(gone)
    counts.update(come)
    return +counts


def _is_there(directory: Directory, groups: Mapping[str, int], name: str) -> bool:
    """Whether a name in `may_send_as` means somebody."""
    if name.startswith(GROUP):
        return name.removeprefix(GROUP) in groups
    return name == ANYONE or directory.profile(name) is not None
