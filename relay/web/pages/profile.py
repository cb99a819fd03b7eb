"""The page of an agent: how the own mail leaves, what is missing for it, and what became of it."""

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from relay.control.messages.results import HistoryItem, Page
from relay.control.refused import Refused, Unavailable
from relay.web.kit.page_request import AGENTS, PageRequest, page
from relay.web.kit.site import Site
from relay.web.kit.test_page import Back, stream_test
from relay.web.kit.words import MEANINGS
from relay.web.pages.own_account import account_routes
from relay.web.pages.own_messages import RECENT, message_routes
from relay.web.sign_in import begin_session

_BACK = Back("/profile", "My profile")


def routes(site: Site) -> list[Route]:
    """Return the routes of an agent's own pages."""
    return [
        page("/profile", site, get=_show, roles=AGENTS),
        page("/profile/password", site, post=_set_mail_password, posters=AGENTS),
        page("/profile/login", site, post=_set_login_password, posters=AGENTS),
        page("/profile/test", site, post=_test, posters=AGENTS),
        *account_routes(site),
        *message_routes(site),
    ]


async def _show(visit: PageRequest) -> Response:
    return await _profile(visit)


async def _profile(visit: PageRequest, *, faults: dict[str, str] | None = None, status: int = 200) -> Response:
    name = visit.actor.name
    sending: dict[str, Any] = await visit.run("agent.sending", name=name)
    recent: Page[HistoryItem] = await visit.run("agent.messages", name=name, limit=RECENT)
    return visit.render(
        "profile.html", status=status, sending=sending, recent=recent.items, meanings=MEANINGS, faults=faults or {}
    )


async def _set_mail_password(visit: PageRequest) -> Response:
    password = visit.secret("mail_password")
    if password is None:
        return await _profile(visit, faults={"mail_password": "enter the password"}, status=422)
    try:
        await visit.run("agent.password", name=visit.actor.name, password=password)
    except Refused as error:
        return await _profile(visit, faults={"mail_password": str(error)}, status=422)
    return visit.redirect("/profile", "Your email password is set. Test it below.")


async def _set_login_password(visit: PageRequest) -> Response:
    admission, fresh = visit.site.admission, visit.secret("new_password")
    try:
        is_right = await admission.knows_password(visit.actor, visit.secret("present_password") or "", visit.peer)
    except Refused as error:
        status = 503 if isinstance(error, Unavailable) else 429
        return await _profile(visit, faults={"present_password": str(error)}, status=status)
    if not is_right:
        return await _profile(visit, faults={"present_password": "this is not your present password"}, status=422)
    if fresh is None:
        return await _profile(visit, faults={"new_password": "enter the new password"}, status=422)
    try:
        await visit.run("agent.login", name=visit.actor.name, password=fresh)
    except Refused as error:
        return await _profile(visit, faults={"new_password": str(error)}, status=422)
    # The change ended all sessions, this one too; whoever made it goes on in a new one.
    response = visit.redirect("/profile", "Your login password is changed. You are signed out everywhere else.")
    return await begin_session(visit, response, await admission.open_session(visit.actor))


async def _test(visit: PageRequest) -> Response:
    params: dict[str, Any] = {"name": visit.actor.name, "to": visit.text("to") or None}
    return stream_test(visit, "Test of your mail account", "agent.test", params, _BACK)
