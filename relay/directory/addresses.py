"""Whose each address is: the addresses, aliases and whole domains of the profiles of one directory, by their keys."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relay.directory.model import Profile
from relay.mail.address import Address, domain_key


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
