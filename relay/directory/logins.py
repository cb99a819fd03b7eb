"""By which names somebody logs in at Relay: the name of a channel, agent or application, or a profile's own address.

Pure. Names compare exactly, then without case where only one is meant; addresses as everywhere (IDNA, no case).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from relay.directory.model import Application, Directory, Profile
from relay.mail.address import Address, AddressError, without_case

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
