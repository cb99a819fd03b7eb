"""By which names somebody logs in at Relay: the name of a channel, agent or application, or a profile's own address.

Pure. Names compare exactly, then without case where only one is meant; addresses as everywhere (IDNA, no case).
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from relay.directory.model import Application, Directory, Profile
from relay.mail.address import Address, AddressError

Holder: TypeAlias = Profile | Application
"""Who can have a login."""

# An address is at most 254 octets and a name 64 characters: what is longer is nobody's, and is not looked at.
_MOST_CHARACTERS = 256


class LoginNames:
    """The logins of one directory. Made once for it; a look-up is a few dictionary look-ups.

    `addresses` are its profiles by the keys of their own addresses.
    """

    def __init__(self, directory: Directory, addresses: Mapping[str, Profile]) -> None:
        self._directory = directory
        self._addresses = addresses
        # Names that are not in lower case by themselves; None where several are meant.
        self._folded: dict[str, Holder | None] = {}
        for holder in _holders(directory):
            key = holder.name.casefold()
            if key != holder.name:
                self._folded[key] = None if key in self._folded or self._exact(key) else holder

    @property
    def names(self) -> list[str]:
        """The names of all who can have a login, without their addresses."""
        return [holder.name for holder in _holders(self._directory)]

    def holder(self, name: str) -> Holder | None:
        """Return whom a client means that logs in by this name; None: nobody."""
        if len(name) > _MOST_CHARACTERS:
            return None
        return self._exact(name) or self._without_case(name.casefold()) or self._addresses.get(login_key(name))

    def _exact(self, name: str) -> Holder | None:
        return self._directory.profile(name) or self._directory.applications.get(name)

    def _without_case(self, key: str) -> Holder | None:
        return self._folded[key] if key in self._folded else self._exact(key)


def login_key(name: str) -> str:
    """Return what two spellings of one login name share."""
    if len(name) > _MOST_CHARACTERS or "@" not in name:
        return name.casefold()
    try:
        return Address.parse(name).key
    except AddressError:
        return name.casefold()


def _holders(directory: Directory) -> Iterator[Holder]:
    yield from directory.profiles()
    yield from directory.applications.values()
