"""Rows of a Postfix table, and how Postfix looks for an address in them. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from relay.moving.postfix_lines import Entry


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows by their keys. `rest` is what every other key finds; `origin` the domain of a bare user name."""

    entries: Mapping[str, Entry]
    rest: Entry | None = None
    origin: str = ""
    delimiters: str = ""

    def __bool__(self) -> bool:
        return bool(self.entries) or self.rest is not None

    def get(self, key: str) -> Entry | None:
        """Return the row of a key."""
        return self.entries.get(key.lower(), self.rest)

    def of(self, address: str) -> Entry | None:
        """Return the row for an address, or "@domain" for one that has no row of its own.

        In this order (canonical(5), generic(5)): the address, the one without its extension, the user name alone where
        the domain is ours, the domain.
        """
        for key in self._keys(address.lower()):
            if key in self.entries:
                return self.entries[key]
        return self.rest

    def senders(self) -> Iterator[tuple[str, Entry]]:
        """Yield each address or "@domain" that has a row of its own, whole domains last."""
        found = [(key if "@" in key else f"{key}@{self.origin}", entry) for key, entry in self.entries.items()]
        yield from (each for each in found if not each[0].startswith("@"))
        yield from (each for each in found if each[0].startswith("@"))

    def _keys(self, address: str) -> Iterator[str]:
        local, _, domain = address.rpartition("@")
        if local:
            base = min((local.partition(mark)[0] or local for mark in self.delimiters), key=len, default=local)
            yield from (address, f"{base}@{domain}")
            if domain == self.origin.lower():
                yield from (local, base)
        yield f"@{domain}"
