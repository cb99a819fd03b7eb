"""The link by which the first administrator comes in: no password is made up, and none is typed into a terminal."""

from datetime import datetime

from relay.control.actor import Role
from relay.control.context import Parts
from relay.control.secret_links import invite
from relay.secrets.login_password import admin_owner


async def first_link(parts: Parts, now: datetime) -> str | None:
    """Make a one-time link that makes an administrator; None where somebody can sign in who may change something."""
    people = await parts.people.administrators.all()
    if any(one.role == Role.ADMINISTRATOR and parts.vault.has(admin_owner(one.name)) for one in people):
        return None
    return (await invite(parts, "admin", "", Role.ADMINISTRATOR, now)).url
