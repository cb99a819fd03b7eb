"""Passwords that stand in the directory itself, written by hand."""

from collections.abc import Iterator

from relay.directory.model import Directory, Profile, Server
from relay.directory.rules.validation import holder_key


def inline_passwords(directory: Directory) -> Iterator[str]:
    """Yield the key of each password that stands there: "channels.support.password"."""
    holders: list[Server | Profile] = [*directory.servers.values(), *directory.profiles()]
    yield from (f"{holder_key(holder)}.password" for holder in holders if holder.password)
    for holder in holders:
        if holder.incoming and holder.incoming.password:
            yield f"{holder_key(holder)}.incoming.password"
