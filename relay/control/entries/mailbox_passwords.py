"""The passwords of mailboxes that are read (`incoming`)."""

from typing import Any

from relay.control.audit_details import note_secret
from relay.control.context import Parts, find_profile, find_server
from relay.control.operation import Operation
from relay.control.refused import Refused
from relay.directory.model import Profile, ProfileKind, Server
from relay.secrets.mailbox_secrets import incoming_ref


class IncomingPasswords:
    """The operation of each noun that may have a mailbox."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "server.incoming": Operation(self.of_server, is_change=True),
            "channel.incoming": Operation(self.of_channel, is_change=True),
            "agent.incoming": Operation(self.of_agent, is_change=True),
        }

    async def of_server(self, *, name: str, password: str) -> dict[str, Any]:
        """Set the password of the mailbox of a server's address."""
        return await self._set(find_server(self._parts, name), password)

    async def of_channel(self, *, name: str, password: str) -> dict[str, Any]:
        """Set the password of a channel's mailbox."""
        return await self._set(find_profile(self._parts, ProfileKind.CHANNEL, name), password)

    async def of_agent(self, *, name: str, password: str) -> dict[str, Any]:
        """Set the password of an agent's mailbox."""
        return await self._set(find_profile(self._parts, ProfileKind.AGENT, name), password)

    async def _set(self, entry: Server | Profile, password: str) -> dict[str, Any]:
        ref = incoming_ref(entry)
        if ref is None:
            raise Refused(no_mailbox(entry))
        if ref.source or ref.inline:
            where = ref.source or "directory.toml"
            raise Refused(
                f"the mailbox of '{entry.name}' takes its password from {where}; set it there, or take that out"
            )
        was_set = self._parts.vault.has(ref.owner)
        await self._parts.vault.put(ref.owner, password, bound_to=ref.bound_to)
        note_secret("incoming.password", was_set=was_set)
        return {"ok": True}


def no_mailbox(entry: Server | Profile) -> str:
    """Return the sentence about somebody whose mailbox nobody has named."""
    return f"'{entry.name}' has no mailbox; set incoming.host first"
