"""What is secret in cookies, links and tokens: made here, and kept by its digest alone."""

import hashlib
import secrets
from datetime import datetime, timedelta

from relay.control.audit_details import note
from relay.control.context import Parts
from relay.control.messages.records import rfc3339
from relay.control.people.results import InvitationLink
from relay.control.refused import Refused
from relay.store.people.invitations import InvitationRow

_INVITED = timedelta(hours=24)


def new_secret() -> str:
    """Return 256 bits that nobody guesses, as they may stand in a cookie or an address."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Return what is kept of a secret. It has too many bits to be tried out, so one quick hash is enough."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


async def invite(parts: Parts, kind: str, name: str, role: str, now: datetime) -> InvitationLink:
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
