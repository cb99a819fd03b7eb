"""The operations on applications: logins of software that may send as several profiles."""

from collections.abc import Mapping
from typing import Any

from relay.control.context import Parts, find_application
from relay.control.entries.assignments import changed_values, unchanged
from relay.control.entries.login_passwords import forget_login_password, set_login_password
from relay.control.entries.records import application_record
from relay.control.operation import Operation
from relay.directory.edit import add_application, check_values, remove_application, set_application
from relay.directory.model import Application, Directory


class Applications:
    """What can be asked about applications, and done with them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "application.add": Operation(self.add, is_change=True),
            "application.list": Operation(self.list_),
            "application.show": Operation(self.show),
            "application.set": Operation(self.set_, is_change=True),
            "application.remove": Operation(self.remove, is_change=True),
            "application.password": Operation(self.password, is_change=True),
        }

    async def list_(self) -> list[dict[str, Any]]:
        """Return all applications, in the order of their names."""
        applications = self._parts.directory.routing().directory.applications
        return [application_record(self._parts, applications[name]) for name in sorted(applications)]

    async def show(self, *, name: str) -> dict[str, Any]:
        """Return one application."""
        return application_record(self._parts, find_application(self._parts, name))

    async def add(self, *, name: str, values: dict[str, Any], password: str | None = None) -> dict[str, Any]:
        """Add an application with the values of its keys, and return it."""
        check_values(Application, values)
        await self._parts.directory.change(lambda document: add_application(document, name, values))
        # A name that was free has no login: what an earlier owner of the name left must not let anybody in.
        await forget_login_password(self._parts, name)
        if password is not None:
            await set_login_password(self._parts, name, password)
        return await self.show(name=name)

    async def set_(
        self,
        *,
        name: str,
        changes: list[str] | None = None,
        values: dict[str, Any] | None = None,
        expected: str | None = None,
    ) -> dict[str, Any]:
        """Change keys ("KEY=VALUE"; "KEY=" restores the default; or `values`, None restores), return the application.

        `expected` is the version that is meant.
        """
        new = changed_values(Application, changes, values)
        await self._parts.directory.change(
            lambda document: set_application(document, name, new), unchanged("application", name, _all, expected)
        )
        return await self.show(name=name)

    async def remove(self, *, name: str, expected: str | None = None) -> dict[str, Any]:
        """Remove an application and its login password."""
        await self._parts.directory.change(
            lambda document: remove_application(document, name), unchanged("application", name, _all, expected)
        )
        await forget_login_password(self._parts, name)
        return {"ok": True}

    async def password(self, *, name: str, password: str) -> dict[str, Any]:
        """Set the login password, with which the application logs in at Relay."""
        await set_login_password(self._parts, find_application(self._parts, name).name, password)
        return {"ok": True}


def _all(directory: Directory) -> Mapping[str, Application]:
    return directory.applications
