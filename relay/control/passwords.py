"""The mail passwords of servers and profiles: set, forgotten, listed, moved to the vault."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from relay.control.operation import Operation
from relay.control.parts import Parts
from relay.control.refused import Refused
from relay.directory.file import Edit
from relay.directory.model import Directory, Profile, Server
from relay.secrets.secret import ref_of


class Passwords:
    """What can be asked about the vault, and done with it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "secrets.list": Operation(self.list_),
            "secrets.import": Operation(self.import_, is_change=True),
            "secrets.rotate": Operation(self.rotate, is_change=True),
        }

    async def list_(self) -> list[dict[str, Any]]:
        """Return who has a password, where it is kept ("vault", "directory", "file:…"), since when, and if it is used.

        A password in the vault that its owner does not use, because another source comes first, is not listed twice.
        """
        owners = self._parts.vault.owners()
        records = []
        for entry in _entries(self._parts.directory.routing().directory):
            ref = ref_of(entry)
            if self._parts.secrets.is_set(ref):
                source = ref.source or ("directory" if ref.inline else "vault")
                changed = _time(owners[ref.owner]) if source == "vault" else None
                records.append({"owner": ref.owner, "source": source, "changed": changed, "used": True})
        known = {record["owner"] for record in records}
        for owner, changed_at in owners.items():
            if owner not in known:
                records.append({"owner": owner, "source": "vault", "changed": _time(changed_at), "used": False})
        return records

    async def import_(self) -> dict[str, Any]:
        """Move the passwords that stand in directory.toml to the vault, and return whose they were.

        Each is in the vault before any leaves the file, so that a crash in between loses none.
        """
        entries = [entry for entry in _entries(self._parts.directory.routing().directory) if entry.password]
        for entry in entries:
            await self._parts.vault.put(ref_of(entry).owner, entry.password)
        if entries:
            await self._parts.directory.change(_without_passwords(entries))
        return {"ok": True, "imported": [ref_of(entry).owner for entry in entries]}

    async def rotate(self) -> dict[str, Any]:
        """Seal every password in the vault under a new master key, and return the key's id."""
        await self._parts.vault.rotate()
        return {"ok": True, "secrets": len(self._parts.vault.owners()), "key": self._parts.vault.key_id}


async def set_password(parts: Parts, entry: Server | Profile, password: str) -> None:
    """Put a password in the vault; one that stands in directory.toml goes. Raises Refused where it would not count."""
    ref = ref_of(entry)
    if ref.source:
        raise Refused(
            f"'{entry.name}' takes its password from {ref.source}; set it there, or set password_from= to keep it here"
        )
    await parts.vault.put(ref.owner, password)
    if ref.inline:
        await parts.directory.change(_without_passwords([entry]))


async def forget_password(parts: Parts, entry: Server | Profile) -> None:
    """Remove an owner's password from the vault, if there is one."""
    owner = ref_of(entry).owner
    if parts.vault.has(owner):
        await parts.vault.delete(owner)


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _entries(directory: Directory) -> Iterator[Server | Profile]:
    yield from directory.servers.values()
    yield from directory.profiles()


def _without_passwords(entries: Iterable[Server | Profile]) -> Edit:
    """Return the edit that takes these passwords out of the file; one that was changed meanwhile stays."""
    places = [
        ("servers" if isinstance(entry, Server) else f"{entry.kind}s", entry.name, entry.password) for entry in entries
    ]

    def edit(document: Any) -> None:
        for table, name, password in places:
            held = document.get(table, {}).get(name, {})
            if held.get("password") == password:
                del held["password"]

    return edit
