"""The operations on the API's bearer tokens."""

from datetime import UTC, datetime
from typing import Literal

from relay.config.schema import no_such
from relay.control.audit_log import note
from relay.control.context import ControlContext
from relay.control.messages.records import rfc3339
from relay.control.operation import Operation
from relay.control.people.invitations import digest, new_secret
from relay.control.people.results import AddedToken, TokenRecord
from relay.control.refused import NotFound, Refused
from relay.control.results import Done
from relay.directory.reading import name_fault

_PREFIX = "relay_"  # by which a token is known for one where it was left lying about


class ApiTokenOperations:
    """What can be asked about tokens, and done with them."""

    def __init__(self, parts: ControlContext) -> None:
        self._tokens = parts.people.tokens

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "token.add": Operation(self.add, is_change=True),
            "token.list": Operation(self.list_),
            "token.remove": Operation(self.remove, is_change=True),
        }

    async def list_(self) -> list[TokenRecord]:
        """Return all tokens by their names, in the order of these."""
        return [
            TokenRecord(name=one.name, role=one.role, created=rfc3339(one.created), used=rfc3339(one.used))
            for one in await self._tokens.all()
        ]

    async def add(self, *, name: str, role: Literal["administrator", "viewer"] = "viewer") -> AddedToken:
        """Add a token, and return it: this once, for only its digest is kept. Without a role it changes nothing."""
        if wrong := name_fault(name):
            raise Refused(wrong, key="name")
        token, now = _PREFIX + new_secret(), datetime.now(UTC)
        if not await self._tokens.add(name, digest(token), role, now):
            raise Refused(f"there is a token '{name}' already; choose another name, or remove that one", key="name")
        note("role", None, role)
        return AddedToken(name=name, role=role, created=rfc3339(now), used=None, token=token)

    async def remove(self, *, name: str) -> Done:
        """Remove a token, which lets nobody in from now on."""
        role = await self._tokens.remove(name)
        if role is None:
            raise NotFound(no_such("token", name, [one.name for one in await self._tokens.all()]), key="name")
        note("role", role, None)
        return Done()
