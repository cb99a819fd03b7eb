"""By which names somebody logs in at Relay: the name of a channel, agent or application, or a profile's own address.

Pure. Names compare exactly, then without case where only one is meant; addresses as everywhere (IDNA, no case).
"""

from collections.abc import Iterator
from typing import TypeAlias

from relay.directory.model import Application, Directory, Profile
from relay.mail.address import Address, AddressError

Holder: TypeAlias = Profile | Application
"""Who can have a login."""

# An address is at most 254 octets and a name 64 characters: what is longer is nobody's, and is not looked at.
_MOST_CHARACTERS = 256


class LoginNames:
    """The logins of one directory. Made once for it; a look-up is a few dictionary look-ups."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._folded: dict[str, Holder | None] = {}
        self._addresses = {Address.parse(profile.address).key: profile for profile in directory.profiles()}
        for holder in _holders(directory):
            key = holder.name.casefold()
            self._folded[key] = None if key in self._folded else holder

    @property
    def names(self) -> list[str]:
        """The names of all who can have a login, without their addresses."""
        return [holder.name for holder in _holders(self._directory)]

    def holder(self, name: str) -> Holder | None:
        """Return whom a client means that logs in by this name; None: nobody."""
        if len(name) > _MOST_CHARACTERS:
            return None
        exact = self._directory.profile(name) or self._directory.applications.get(name)
        return exact or self._folded.get(name.casefold()) or self._addresses.get(login_key(name))


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
