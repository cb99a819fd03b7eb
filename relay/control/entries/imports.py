"""Entries from the files of another program, all of them in one change or none.

Who reads those files is the command, because they may be readable to whoever gives it and not to the service.
"""

from asyncio import to_thread
from collections.abc import Mapping, Sequence
from typing import Any

from relay.config.faults import Fault, Faults
from relay.control.audit_log import note_secret
from relay.control.context import ControlContext
from relay.control.entries.passwords import forget_login_password, forget_password
from relay.control.operation import Access, Operation
from relay.control.refused import Conflict
from relay.directory.document import Document
from relay.directory.kinds import EntryKind, profile_kind
from relay.directory.model import Profile
from relay.moving.merge import Merge, MergeFault, Placed, Wanted, merge
from relay.secrets.login_password import login_owner
from relay.secrets.secret import bindings_of, client_owner

_CHANGED = "the directory was changed meanwhile; look at what the import does now and confirm again"


class Moving:
    """`moving.import`."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"moving.import": Operation(self.import_, access=Access.ADMIN)}

    async def import_(
        self,
        *,
        name: str,
        servers: list[dict[str, Any]],
        profiles: list[dict[str, Any]],
        default: str = "",
        kind: str = "channel",
        confirm: bool = False,
        expected: str | None = None,
    ) -> dict[str, Any]:
        """Return what entries from a file of that name add, and every fault; with `confirm` and no fault, do it.

        An entry is {key, values, place, server, password}: `values` are keys of directory.toml, `place` is where it
        stands, and the `server` of a profile is the `key` of one. `default` is the key of the default server.
        """
        work = _Work(_wanted(servers), _wanted(profiles), default, profile_kind(kind), expected)
        faults = await self._faults(work)
        if expected is not None and expected != work.merge.version:
            raise Conflict(_CHANGED)
        is_done = confirm and not faults
        if is_done:
            await self._carry_out(work)
        return {"file": name, **await to_thread(_result, work.merge, faults, self._parts, is_done=is_done)}

    async def _faults(self, work: "_Work") -> list[MergeFault]:
        try:
            await self._parts.directory.preview(work)
        except Faults as error:
            return [*work.merge.faults, *_placed_faults(error.faults, work.merge)]
        return [*work.merge.faults, *await self._other_passwords(work.merge)]

    async def _other_passwords(self, done: Merge) -> list[MergeFault]:
        """Return a fault for each entry that is there with another password than the files have."""
        faults = []
        for one in done.entries:
            is_known = bool(one.password) and not one.is_new and not self._lacks_password(one)
            known = await self._parts.vault.get(one.owner) if is_known else None
            if known is not None and known.value != one.password:
                way = f"set it with: relay {one.kind} password {one.name}"
                message = f"{one.kind} '{one.name}' has another password already; take this row out, or {way}"
                faults.append(MergeFault(one.place, f"{one.kind}s.{one.name}.password", message))
        return faults

    async def _carry_out(self, work: "_Work") -> None:
        """Write the directory once, then the passwords; in this order a crash in between is mended by a second run."""
        new = [one for one in work.merge.entries if one.is_new]
        if new or work.merge.default is not None:
            await self._parts.directory.change(work.again())
        await self._forget_left_secrets(new)
        missing = {one.owner: one.password for one in work.merge.entries if self._lacks_password(one)}
        await self._parts.vault.put_all(missing, bindings_of(self._parts.directory.routing().directory, missing))
        for owner in missing:
            note_secret(owner, was_set=False)

    async def _forget_left_secrets(self, new: Sequence[Placed]) -> None:
        """A name that was free has no password: what an earlier owner of it left must not serve the new one."""
        directory = self._parts.directory.routing().directory
        for one in await to_thread(lambda: list(filter(self._has_left_secrets, new))):
            entry = directory.servers.get(one.name) if one.kind == "server" else directory.profile(one.name)
            if entry is not None:
                await forget_password(self._parts, entry)
            if one.kind != "server" and self._parts.vault.has(login_owner(one.name)):
                await forget_login_password(self._parts, one.name)

    def _has_left_secrets(self, one: Placed) -> bool:
        is_server = one.kind == "server"
        of_login = client_owner(one.name) if is_server else login_owner(one.name)
        incoming = f"incoming/server/{one.name}" if is_server else f"incoming/{one.name}"
        left = (one.owner, f"oauth/{one.owner}", incoming, of_login)
        return any(self._parts.vault.has(owner) for owner in left)

    def _lacks_password(self, one: Placed) -> bool:
        """Whether it has a password in the files, and none in the vault that counts at its server."""
        place = bindings_of(self._parts.directory.routing().directory, [one.owner]).get(one.owner, "")
        return bool(one.password) and not self._parts.vault.is_for(one.owner, place)


class _Work:
    """The edit of an import. What it does is found out from the document that it is given first."""

    def __init__(
        self,
        servers: Sequence[Wanted],
        profiles: Sequence[Wanted],
        default: str,
        kind: EntryKind[Profile],
        expected: str | None = None,
    ) -> None:
        self._wanted = (servers, profiles, default, kind)
        self._expected = expected
        self.merge = Merge((), None, ())

    def again(self) -> "_Work":
        """Return the same edit for the document as it is when it is written, which must be as it was here."""
        return _Work(*self._wanted, self.merge.version)

    def __call__(self, document: Document) -> None:
        """Make the changes in the document. Raises Conflict where they are others than expected."""
        if not self.merge.entries or self._expected is not None:  # on another document it is made anew
            self.merge = merge(document, *self._wanted)
            if self._expected is not None and self._expected != self.merge.version:
                raise Conflict(_CHANGED)
        self.merge.apply(document)


def _wanted(entries: Sequence[Mapping[str, Any]]) -> list[Wanted]:
    return [
        Wanted(
            key=str(entry.get("key", "")),
            values=dict(entry["values"]),
            place=str(entry.get("place", "")),
            server=str(entry.get("server", "")),
            password=str(entry.get("password") or ""),
        )
        for entry in entries
    ]


def _placed_faults(faults: Sequence[Fault], done: Merge) -> list[MergeFault]:
    """Return the faults of the directory that would be, with the line of the entry that each is about."""
    places = {f"{one.kind}s.{one.name}": one.place for one in done.entries}
    found = []
    for fault in faults:
        entry = next((key for key in places if fault.key == key or fault.key.startswith(f"{key}.")), "")
        found.append(MergeFault(places.get(entry, fault.file), fault.key, fault.message))
    return found


def _result(done: Merge, faults: Sequence[MergeFault], parts: ControlContext, *, is_done: bool) -> dict[str, Any]:
    default = done.default or parts.directory.routing().directory.default_server
    return {
        "servers": [_record(one, default) for one in done.entries if one.kind == "server"],
        "profiles": [_record(one, default) for one in done.entries if one.kind != "server"],
        "default_server": default,
        "faults": [fault._asdict() for fault in faults],
        "version": done.version,
        "done": is_done,
    }


def _record(one: Placed, default: str | None) -> dict[str, Any]:
    """Return an entry as it is shown: what it says, and whether there is a password for it, never which."""
    values = {key: value for key, value in one.values.items() if key != "password_from"}
    shown: dict[str, Any] = {"name": one.name, "is_new": one.is_new, "place": one.place, **values}
    shown["password"] = "password_from" if one.values.get("password_from") else "vault" if one.password else None
    if one.kind == "server":
        return {**shown, "default": one.name == default}
    return {**shown, "kind": one.kind, "server": one.values.get("server") or default}
