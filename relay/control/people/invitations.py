"""The operation that invites an agent to its own page, where it sets its passwords itself."""

from datetime import UTC, datetime

from relay.control.actor import Role
from relay.control.context import Parts
from relay.control.lookup import find_profile
from relay.control.operation import Operation
from relay.control.people.results import InvitationLink
from relay.control.secret_links import invite
from relay.directory.model import ProfileKind


class InvitationOperations:
    """What can be done to let somebody in."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"agent.invite": Operation(self.invite, is_change=True)}

    async def invite(self, *, name: str) -> InvitationLink:
        """Return a one-time link (`url`) for an agent. It takes the place of the one before."""
        agent = find_profile(self._parts, ProfileKind.AGENT, name)
        return await invite(self._parts, "agent", agent.name, Role.AGENT, datetime.now(UTC))
