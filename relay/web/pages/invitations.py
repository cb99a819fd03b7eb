"""Inviting agents: the one-time links are shown once, to be sent on."""

from typing import Any
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from relay.control.people.results import InvitationLink
from relay.control.refused import Refused
from relay.web.kit.page_request import PageRequest, page
from relay.web.kit.site import Site

_MOST = 500  # a page of the list has fewer


def invitation_routes(site: Site) -> list[Route]:
    """Return the routes that invite several agents, and one."""
    return [
        page("/agents/-/invite", site, post=_invite_several),
        page("/agents/{name}/invite", site, post=_invite_one),
    ]


async def _invite_one(visit: PageRequest) -> Response:
    return _show(visit, [await _invited(visit, visit.path["name"])], back=f"/agents/{quote(visit.path['name'], '')}")


async def _invite_several(visit: PageRequest) -> Response:
    names = [value for value in visit.form.getlist("name") if isinstance(value, str)]
    if not names:
        return visit.redirect("/agents", "Nobody was chosen: tick the agents to invite first.", is_done=False)
    if len(names) > _MOST:
        raise Refused(f"at most {_MOST} agents are invited at once")
    return _show(visit, [await _invited(visit, name) for name in dict.fromkeys(names)], back="/agents")


async def _invited(visit: PageRequest, name: str) -> dict[str, Any]:
    agent = await visit.run("agent.show", name=name)
    link: InvitationLink = await visit.run("agent.invite", name=name)
    return {
        "name": name,
        "address": agent["address"],
        "full_name": agent["full_name"],
        "mail": _mail_to(agent, link.url),
        "url": link.url,
        "expires": link.expires,
    }


def _mail_to(agent: dict[str, Any], url: str) -> str:
    """Return a mailto: link (RFC 6068) with the invitation, to be sent from whoever invites."""
    greeting = f"Hello {agent['full_name']}," if agent["full_name"] else "Hello,"
    body = (
        f"{greeting}\r\n\r\nplease open this link and set your passwords"
        f" for sending mail as {agent['address']}:\r\n\r\n"
        f"{url}\r\n\r\nIt works once and for 24 hours.\r\n"
    )
    return (
        f"mailto:{quote(agent['address'], safe='@')}?subject={quote('Your mail account')}&body={quote(body, safe='')}"
    )


def _show(visit: PageRequest, invited: list[dict[str, Any]], *, back: str) -> Response:
    return visit.render("agents/invited.html", invited=invited, back=back)
