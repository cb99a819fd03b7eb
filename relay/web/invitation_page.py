"""The page of an invitation: the guest sets the passwords, which uses the link up, and is signed in.

SECURITY: looking uses nothing up, because mail scanners open every link. There is no session yet, so no form key
either: that the form came from this page is what the guard makes sure of, by Origin and Sec-Fetch-Site. The link is in
the address, which the guard's Referrer-Policy tells no other site. ("no-referrer" would take the Origin away, too.)
"""

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.control.actor import Actor, Role, Way
from relay.control.people.admission import Invitation
from relay.control.refused import LoginRefused, Refused, Unavailable
from relay.control.tests.results import LoginCheck
from relay.web.kit.page_request import PageRequest, cookie_of, posted_form
from relay.web.kit.site import Site
from relay.web.kit.words import KEEP, as_told, login_words
from relay.web.sign_in import begin_session, first_page

_GONE = 410


def routes(site: Site) -> list[Route]:
    """Return the route of invitations."""

    async def welcome(request: Request) -> Response:
        # Whoever is signed in in this browser has nothing to do with the invitation.
        visit = PageRequest(request, site, None)
        token = request.path_params["token"]
        try:
            with as_told(None):
                invitation = await site.admission.invitation(token)
                if invitation is None:
                    return visit.render("invitations/expired.html", status=_GONE)
                if request.method == "POST":
                    visit.form = await posted_form(request, most_fields=10)
                    return await _accept(visit, token, invitation)
                return await _ask(visit, invitation)
        except Refused as error:
            return visit.refuse(error)

    return [Route("/welcome/{token}", welcome, methods=["GET", "POST"])]


async def _accept(visit: PageRequest, token: str, invitation: Invitation) -> Response:
    admission = visit.site.admission
    faults: dict[str, str] = {}
    try:
        actor, login = await _let_in(visit, token, invitation)
    except Unavailable:
        raise
    except LoginRefused as error:
        faults["mail_password"] = f"{error.words}. {KEEP}"
        return await _ask(visit, invitation, faults=faults, status=422, may_keep=True)
    except Refused as error:
        if await admission.invitation(token) is None:  # somebody else was quicker
            return visit.render("invitations/expired.html", status=_GONE)
        faults["name" if error.key == "name" else "password"] = str(error)
        return await _ask(visit, invitation, faults=faults, status=422)
    if old := cookie_of(visit.request, visit.site.cookie_name):
        await admission.close_session(old)
    words = (
        f"Welcome, {actor.name}. You are signed in.",
        f"Your email password is saved{login_words(login)}." if login else "",
    )
    response = visit.redirect(first_page(actor.role), " ".join(filter(None, words)))
    return await begin_session(visit, response, await admission.open_session(actor))


async def _let_in(visit: PageRequest, token: str, invitation: Invitation) -> tuple[Actor, LoginCheck | None]:
    """Return who came in, and what is known of the mail password where one was given."""
    admission, password = visit.site.admission, visit.secret("password") or ""
    if invitation.kind == "agent":
        mail_password, unchecked = visit.secret("mail_password"), visit.text("unchecked") == "true"
        return await admission.accept_agent(token, password, mail_password, visit.peer, unchecked=unchecked)
    name = invitation.name or visit.text("name")
    return await admission.accept_admin(token, name, password, visit.peer), None


async def _ask(
    visit: PageRequest,
    invitation: Invitation,
    *,
    faults: Mapping[str, str] | None = None,
    status: int = 200,
    may_keep: bool = False,
) -> Response:
    """Show the form. `may_keep`: the mail password that was refused may be kept as it is."""
    name = visit.text("name")
    visit.form = FormData()
    return visit.render(
        "invitations/accept.html",
        status=status,
        invitation=invitation,
        sending=await _sending(visit, invitation),
        name=name,
        faults=faults or {},
        may_keep=may_keep,
    )


async def _sending(visit: PageRequest, invitation: Invitation) -> dict[str, Any] | None:
    """Return how the invited agent sends; the link stands for the agent, who may ask that."""
    if invitation.kind != "agent":
        return None
    agent = Actor(name=invitation.name, role=Role.AGENT, way=Way.PAGE, peer=visit.peer)
    found: dict[str, Any] = await visit.site.operations.run("agent.sending", {"name": agent.name}, agent)
    return found
