"""The operations on scripts: named header rules."""

from asyncio import to_thread
from collections.abc import Mapping
from typing import Any

from relay.control.context import Parts, find_script
from relay.control.entries.assignments import changed_values, unchanged
from relay.control.entries.records import script_record
from relay.control.operation import Operation
from relay.directory.edit import add_script, check_values, remove_script, set_script
from relay.directory.model import Directory, Script


class Scripts:
    """What can be asked about scripts, and done with them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "script.add": Operation(self.add, is_change=True),
            "script.list": Operation(self.list_),
            "script.show": Operation(self.show),
            "script.set": Operation(self.set_, is_change=True),
            "script.remove": Operation(self.remove, is_change=True),
        }

    async def list_(self) -> list[dict[str, Any]]:
        """Return all scripts, in the order of their names."""
        scripts = self._parts.directory.routing().directory.scripts
        return await to_thread(lambda: [script_record(self._parts, scripts[name]) for name in sorted(scripts)])

    async def show(self, *, name: str) -> dict[str, Any]:
        """Return one script."""
        return await to_thread(script_record, self._parts, find_script(self._parts, name))

    async def add(self, *, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Add a script with the values of its keys (`set_headers`, a table; `remove_headers`), and return it."""
        check_values(Script, values)
        await self._parts.directory.change(lambda document: add_script(document, name, values))
        return await self.show(name=name)

    async def set_(
        self,
        *,
        name: str,
        changes: list[str] | None = None,
        values: dict[str, Any] | None = None,
        expected: str | None = None,
    ) -> dict[str, Any]:
        """Change keys ("KEY=VALUE"; "KEY=" restores the default; or `values`, None restores), return the script.

        `expected` is the version that is meant.
        """
        new = changed_values(Script, changes, values)
        await self._parts.directory.change(
            lambda document: set_script(document, name, new), unchanged("script", name, _all, expected)
        )
        return await self.show(name=name)

    async def remove(self, *, name: str, expected: str | None = None) -> dict[str, Any]:
        """Remove a script that nobody names."""
        await self._parts.directory.change(
            lambda document: remove_script(document, name), unchanged("script", name, _all, expected)
        )
        return {"ok": True}


def _all(directory: Directory) -> Mapping[str, Script]:
    return directory.scripts
