"""What finds somebody in a directory by an address or a login name: made once for it, or from that of the one before.

Addresses, aliases and whole domains of profiles are found by their keys. One logs in by the name of a channel, agent or
application, or by a profile's own address: names compare exactly, then without case where only one is meant; addresses
as everywhere (IDNA, no case). Where a few of a hundred thousand entries are others, nothing is parsed but their
addresses. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from relay.directory.directory import Directory
from relay.directory.model import Application, Profile
from relay.mail.address import Address, AddressError, domain_key, without_case


class AddressTaken(Exception):
    """Two profiles have one address."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Two references for each address: the profile, and of an alias also its text."""

    own: Mapping[str, Profile]
    aliases: Mapping[str, tuple[Profile, str]]
    domains: Mapping[str, Profile]

    @classmethod
    def of(cls, profiles: Iterable[Profile]) -> "Addresses":
        """Return those of profiles; `rules` made sure that each has its own. Raises AddressError."""
        own: dict[str, Profile] = {}
        aliases: dict[str, tuple[Profile, str]] = {}
        domains: dict[str, Profile] = {}
        for profile in profiles:
            own[_key(profile.address)] = profile
            for text in profile.aliases:
                if text.startswith("@"):
                    domains.setdefault(domain_key(text[1:]), profile)
                else:
                    aliases.setdefault(_key(text), (profile, text))
        return cls(own, aliases, domains)

    def after(self, gone: Iterable[Profile], come: Iterable[Profile]) -> "Addresses":
        """Return those of the profiles without some and with others. Raises AddressError, AddressTaken."""
        own, aliases, domains = dict(self.own), dict(self.aliases), dict(self.domains)
        for profile in gone:
            theirs = Addresses.of([profile])
            for of_all, of_one in ((own, theirs.own), (aliases, theirs.aliases), (domains, theirs.domains)):
                for key in of_one:
                    of_all.pop(key)
        for profile in come:
            theirs = Addresses.of([profile])
            for key in (*theirs.own, *theirs.aliases, *(f"@{domain}" for domain in theirs.domains)):
                if key in own or key in aliases or (key.startswith("@") and key[1:] in domains):
                    raise AddressTaken(key)
            own.update(theirs.own)
            aliases.update(theirs.aliases)
            domains.update(theirs.domains)
        return Addresses(own, aliases, domains)


def _key(text: str) -> str:
    """Return the key of an address, and the very same text where it is one: ten thousand of them are a megabyte."""
    key = Address.parse(text).key
    return text if text == key else key


Holder: TypeAlias = Profile | Application
"""Who can have a login."""

# An address is at most 254 octets and a name 64 characters: what is longer is nobody's, and is not looked at.
_MOST_CHARACTERS = 256


class LoginNames:
    """The logins of one directory. Made once for it; a look-up is a few dictionary look-ups.

    `addresses` are its profiles by the keys of their own addresses. `folded` are the names that are not in lower case
    by themselves, by what they are without case; None where several are meant.
    """

    def __init__(
        self,
        directory: Directory,
        addresses: Mapping[str, Profile],
        folded: Mapping[str, str | None] | None = None,
    ) -> None:
        self._directory = directory
        self._addresses = addresses
        self._folded = _folded(self.names) if folded is None else folded

    @property
    def names(self) -> list[str]:
        """The names of all who can have a login, without their addresses."""
        return [holder.name for holder in _holders(self._directory)]

    def after(
        self, directory: Directory, addresses: Mapping[str, Profile], gone: Iterable[str], come: Iterable[str]
    ) -> "LoginNames":
        """Return those of the next directory, in which some names are there no more and others are new."""
        lost = {key for name in gone if (key := without_case(name)) != name}
        if any(self._folded[key] is None for key in lost):  # who is left of them is found by looking at all
            return LoginNames(directory, addresses)
        folded = dict(self._folded)
        for key in lost:
            del folded[key]
        return LoginNames(directory, addresses, _folded(come, folded))

    def holder(self, name: str) -> Holder | None:
        """Return whom a client means that logs in by this name; None: nobody."""
        if len(name) > _MOST_CHARACTERS:
            return None
        return self._exact(name) or self._without_case(without_case(name)) or self._addresses.get(login_key(name))

    def _exact(self, name: str) -> Holder | None:
        return self._directory.profile(name) or self._directory.applications.get(name)

    def _without_case(self, key: str) -> Holder | None:
        exact = self._exact(key)
        if key not in self._folded:
            return exact
        name = self._folded[key]
        return None if exact or name is None else self._exact(name)


def login_key(name: str) -> str:
    """Return what two spellings of one login name share."""
    if len(name) > _MOST_CHARACTERS or "@" not in name:
        return without_case(name)
    try:
        return Address.parse(name).key
    except AddressError:
        return without_case(name)


def _folded(names: Iterable[str], known: Mapping[str, str | None] | None = None) -> dict[str, str | None]:
    """Return what names are without case, beside what is known, as LoginNames has them."""
    folded = dict(known or {})
    for name in names:
        key = without_case(name)
        if key != name:
            folded[key] = None if key in folded else name
    return folded


def _holders(directory: Directory) -> Iterator[Holder]:
    yield from directory.profiles()
    yield from directory.applications.values()


@dataclass(frozen=True, slots=True)
class Index:
    """The addresses and login names of one directory."""

    addresses: Addresses
    logins: LoginNames

    @classmethod
    def of(cls, directory: Directory) -> "Index":
        """Return the index of a directory whose rules hold."""
        addresses = Addresses.of(directory.profiles())
        return cls(addresses, LoginNames(directory, addresses.own))

    def after(self, directory: Directory, gone: Iterable[Holder], come: Iterable[Holder]) -> "Index":
        """Return the index of the next directory: without some, and with others. One that changed is both.

        Raises AddressError, AddressTaken.
        """
        gone, come = list(gone), list(come)
        addresses = self.addresses.after(_profiles(gone), _profiles(come))
        before, now = {holder.name for holder in gone}, {holder.name for holder in come}
        return Index(addresses, self.logins.after(directory, addresses.own, before - now, now - before))


def _profiles(holders: Iterable[Holder]) -> list[Profile]:
    return [holder for holder in holders if isinstance(holder, Profile)]
