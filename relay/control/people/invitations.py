"""Invitations: one-time links by which agents, administrators and the first of these set their passwords themselves.

SECURITY: what is secret in cookies, links and tokens is made here, and kept by its digest alone.

A relay makes the first link at its start, so nothing is imported here that takes time or memory.
"""

import hashlib
import secrets
from datetime import datetime, timedelta

from relay.control.actor import Role
from relay.control.audit_log import note
from relay.control.context import ControlContext
from relay.control.messages.records import rfc3339
from relay.control.people.results import InvitationLink
from relay.control.refused import Refused
from relay.secrets.login_password import admin_owner
from relay.store.people.access import InvitationRow

_INVITED = timedelta(hours=24)


def new_secret() -> str:
    """Return 256 bits that nobody guesses, as they may stand in a cookie or an address."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Return what is kept of a secret. It has too many bits to be tried out, so one quick hash is enough."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


async def invite(parts: ControlContext, kind: str, name: str, role: str, now: datetime) -> InvitationLink:
    """Make a one-time link in place of those before for the same name.

    Raises Refused where there are no pages for it to lead to.
    """
    if not parts.settings.web.address:
        raise Refused("the web pages are turned off; set [web] address in relay.toml to make links to them")
    secret, expires = new_secret(), now + _INVITED
    row = InvitationRow(digest=digest(secret), kind=kind, name=name, role=role, created=now, expires=expires)
    await parts.people.invitations.put(row)
    note("invitation", None, f"good until {rfc3339(expires)}")
    url = f"{parts.settings.web.public_url.rstrip('/')}/welcome/{secret}"
    return InvitationLink(url=url, expires=rfc3339(expires))


async def first_link(parts: ControlContext, now: datetime) -> str | None:
    """Make a one-time link that makes an administrator; None where somebody can sign in who may change something."""
    people = await parts.people.administrators.all()
    if any(one.role == Role.ADMINISTRATOR and parts.vault.has(admin_owner(one.name)) for one in people):
        return None
    return (await invite(parts, "admin", "", Role.ADMINISTRATOR, now)).url
