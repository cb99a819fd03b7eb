"""The login passwords: with which profiles and applications log in at Relay. They are kept in the vault alone."""

from asyncio import to_thread

from relay.control.audit_details import note_forgotten, note_secret
from relay.control.context import Parts
from relay.secrets.login_password import LoginRecord, login_owner, make_record


def login_is_set(parts: Parts, name: str) -> bool:
    """Tell whether somebody has a login password."""
    return parts.vault.has(login_owner(name))


async def set_login_password(parts: Parts, name: str, password: str) -> None:
    """Set somebody's login password. Raises SecretRefused for a text that can be none."""
    await keep_login_password(parts, name, await to_thread(make_record, password))


async def keep_login_password(parts: Parts, name: str, record: LoginRecord) -> None:
    """Keep the record of somebody's new login password, which ends the sessions that began with another.

    SECURITY: an invitation that nobody used ends with it, else whoever finds that could set another one yet.
    """
    was_set = login_is_set(parts, name)
    await parts.vault.put(login_owner(name), record.as_text)
    note_secret("login", was_set=was_set)
    await parts.people.sessions.remove_of("agent", name)
    await parts.people.invitations.remove_of("agent", name)


async def forget_login_password(parts: Parts, name: str) -> None:
    """Remove somebody's login password, if there is one, with all that it let in."""
    if login_is_set(parts, name):
        await parts.vault.delete(login_owner(name))
        note_forgotten("login")
    await parts.people.sessions.remove_of("agent", name)
    await parts.people.invitations.remove_of("agent", name)
