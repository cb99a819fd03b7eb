"""The operations that all nouns have: add, list, show, set, remove, and the passwords that an entry may have."""

from asyncio import to_thread
from typing import Any

from relay.control.context import ControlContext, find_entry
from relay.control.entries.assignments import changed_values, unchanged
from relay.control.entries.passwords import (
    forget_login_password,
    forget_password,
    set_incoming_password,
    set_login_password,
    set_password,
)
from relay.control.entries.records import record_of, records_of
from relay.control.operation import Access, Operation
from relay.control.refused import UnknownOperation
from relay.control.tests.login_check import try_password
from relay.control.tests.results import PasswordKept
from relay.directory.directory import Directory
from relay.directory.document import Document
from relay.directory.edit import add_entry, remove_entry, set_entry
from relay.directory.kinds import AGENT, Entry, EntryKind, Password
from relay.directory.model import Profile, Server
from relay.directory.storage import Edit
from relay.directory.values import Values, check_values


class Entries:
    """What can be asked about the entries of one noun, and done with them."""

    def __init__(self, parts: ControlContext, kind: EntryKind[Entry]) -> None:
        self._parts = parts
        self._kind = kind

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        word, passwords = self._kind.word, self._kind.passwords
        is_agent = self._kind is AGENT
        own = Access.OWN if is_agent else Access.ADMIN
        found = {
            f"{word}.add": Operation(self.add, is_change=True),
            f"{word}.list": Operation(self.list_),
            f"{word}.show": Operation(self.show, access=Access.OWN_READ if is_agent else Access.READ),
            f"{word}.set": Operation(self.set_, is_change=True),
            f"{word}.remove": Operation(self.remove, is_change=True),
        }
        if passwords:
            found[f"{word}.password"] = Operation(self.password, is_change=True, access=own)
        if passwords >= {Password.MAIL, Password.LOGIN}:
            found[f"{word}.login"] = Operation(self.login, is_change=True, access=own)
        if Password.INCOMING in passwords:
            found[f"{word}.incoming"] = Operation(self.incoming, is_change=True)
        return found

    async def list_(self, *, sort: str = "name", contains: str = "") -> list[dict[str, Any]]:
        """Return the entries that have a text in one of their values, sorted by a key of their records."""
        # In a thread: ten thousand agents take a moment, which holds up no message.
        return await to_thread(records_of, self._parts, self._kind, sort=sort, contains=contains)

    async def show(self, *, name: str) -> dict[str, Any]:
        """Return one entry."""
        return await to_thread(record_of, self._parts, self._kind, find_entry(self._parts, self._kind, name))

    async def add(
        self, *, name: str, values: dict[str, Any], password: str | None = None, unchecked: bool = False
    ) -> dict[str, Any]:
        """Add an entry with the values of its keys, and return it. `password` is what the operation `password` sets.

        A mail password that its server refuses adds nothing, unless it is kept `unchecked`.
        """
        if password is not None and not self._kind.passwords:
            raise UnknownOperation(f"{self._kind.one} has no password", key="password")
        await self._add(name, values, password, unchecked=unchecked)
        return await self.show(name=name)

    async def set_(
        self,
        *,
        name: str,
        changes: list[str] | None = None,
        values: dict[str, Any] | None = None,
        expected: str | None = None,
    ) -> dict[str, Any]:
        """Change keys ("KEY=VALUE"; "KEY=" restores the default; or `values`, None restores), return the entry.

        `expected` is the version that is meant.
        """
        await self._set(name, changes, values, expected)
        return await self.show(name=name)

    async def remove(self, *, name: str, expected: str | None = None) -> dict[str, Any]:
        """Remove an entry and its passwords."""
        await self._remove(name, lambda document: remove_entry(document, self._kind, name), expected)
        return {"ok": True}

    async def password(self, *, name: str, password: str, unchecked: bool = False) -> PasswordKept | dict[str, Any]:
        """Set the password with which an entry logs in at its server; of an application, at Relay.

        That of a server is tried there first, unless it is kept `unchecked`.
        """
        entry = find_entry(self._parts, self._kind, name)
        if isinstance(entry, Server | Profile):
            return await set_password(self._parts, entry, password, unchecked=unchecked)
        await set_login_password(self._parts, entry.name, password)
        return {"ok": True}

    async def login(self, *, name: str, password: str) -> dict[str, Any]:
        """Set the login password, with which an entry logs in at Relay."""
        await set_login_password(self._parts, find_entry(self._parts, self._kind, name).name, password)
        return {"ok": True}

    async def incoming(self, *, name: str, password: str) -> dict[str, Any]:
        """Set the password of the mailbox where mail for an entry's address arrives."""
        entry = find_entry(self._parts, self._kind, name)
        assert isinstance(entry, Server | Profile)
        await set_incoming_password(self._parts, entry, password)
        return {"ok": True}

    async def _add(self, name: str, values: Values, password: str | None, *more: Edit, unchecked: bool) -> None:
        """Add an entry and its password, with edits more in the same change.

        A name that was free has no passwords: what an earlier owner of the name left must not serve this one.
        """
        check_values(self._kind.model, values)

        def edit(document: Document) -> None:
            add_entry(document, self._kind, name, values)
            for one in more:
                one(document)

        if password is not None and Password.MAIL in self._kind.passwords:
            directory = await self._parts.directory.preview(edit)
            entry = self._kind.entries(directory)[name]
            assert isinstance(entry, Server | Profile)
            await try_password(self._parts, directory, entry, password, unchecked=unchecked)
        await self._parts.directory.change(edit)
        await self._forget_passwords(find_entry(self._parts, self._kind, name))
        if password is not None:
            await self.password(name=name, password=password, unchecked=True)

    async def _set(
        self, name: str, changes: list[str] | None, values: dict[str, Any] | None, expected: str | None
    ) -> Directory:
        new = changed_values(self._kind.model, changes, values)
        return await self._parts.directory.change(
            lambda document: set_entry(document, self._kind, name, new), unchanged(self._kind, name, expected)
        )

    async def _remove(self, name: str, edit: Edit, expected: str | None) -> None:
        """Remove an entry by an edit, with its passwords and what is known of its last test."""
        entry = find_entry(self._parts, self._kind, name)
        await self._parts.directory.change(edit, unchanged(self._kind, name, expected))
        await self._forget_passwords(entry)
        if isinstance(entry, Server | Profile):
            self._parts.tests.forget(entry)

    async def _forget_passwords(self, entry: Entry) -> None:
        if isinstance(entry, Server | Profile):
            await forget_password(self._parts, entry)
        if Password.LOGIN in self._kind.passwords:
            await forget_login_password(self._parts, entry.name)
