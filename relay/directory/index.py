"""What finds somebody in a directory by an address or a login name: made once for it, or from that of the one before.

Where a few of a hundred thousand entries are others, nothing is parsed but their addresses.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from relay.directory.addresses import Addresses
from relay.directory.logins import Holder, LoginNames
from relay.directory.model import Directory, Profile


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
