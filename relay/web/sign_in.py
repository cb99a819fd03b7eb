"""Signing in and out."""

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.control.actor import Role
from relay.control.people.sign_in import TooMany
from relay.control.refused import Refused, Unavailable
from relay.web.kit.cookies import cookie_of
from relay.web.kit.page_request import EVERYBODY, PageRequest, local_path, page, session_of
from relay.web.kit.posted_form import posted_form
from relay.web.kit.site import Site

_SECONDS = 12 * 3600


def routes(site: Site) -> list[Route]:
    """Return the routes of signing in and out."""

    async def sign_in(request: Request) -> Response:
        visit = PageRequest(request, site, await session_of(request, site))
        if request.method == "POST":
            visit.form = await posted_form(request, most_fields=10)
            return await _sign_in(visit)
        if visit.session is not None:
            return visit.redirect(first_page(visit.session.actor.role))
        return _ask(visit, request.query_params.get("next", ""))

    async def sign_out(visit: PageRequest) -> Response:
        await site.admission.close_session(cookie_of(visit.request, site.cookie_name) or "")
        response = visit.redirect("/sign-in", "You are signed out.")
        response.delete_cookie(site.cookie_name, httponly=True, samesite="lax", secure=site.is_secure)
        return response

    return [
        Route("/sign-in", sign_in, methods=["GET", "POST"]),
        page("/sign-out", site, post=sign_out, posters=EVERYBODY),
    ]


async def begin_session(visit: PageRequest, response: Response, cookie: str) -> Response:
    """Give the browser its session: always a new one, so that nobody can have laid one there before.

    SameSite is lax: with strict a link in an invitation or from another program would end at the sign-in page.
    """
    site = visit.site
    response.set_cookie(
        site.cookie_name, cookie, max_age=_SECONDS, path="/", httponly=True, samesite="lax", secure=site.is_secure
    )
    return response


def first_page(role: Role) -> str:
    """Return where somebody begins."""
    return "/profile" if role is Role.AGENT else "/"


async def _sign_in(visit: PageRequest) -> Response:
    admission = visit.site.admission
    name, wanted = visit.text("name"), visit.text("next")
    try:
        actor = await admission.sign_in(name, visit.secret("password") or "", visit.peer)
    except Refused as error:
        status = 503 if isinstance(error, Unavailable) else 429
        response = _ask(visit, wanted, name=name, fault=str(error), status=status)
        if isinstance(error, TooMany):
            response.headers["Retry-After"] = str(error.seconds)
        return response
    if actor is None:
        return _ask(visit, wanted, name=name, fault="this name and password do not go together", status=403)
    if old := cookie_of(visit.request, visit.site.cookie_name):
        await admission.close_session(old)
    where = local_path(wanted) if wanted and actor.role is not Role.AGENT else first_page(actor.role)
    return await begin_session(visit, visit.redirect(where), await admission.open_session(actor))


def _ask(visit: PageRequest, wanted: str, *, name: str = "", fault: str = "", status: int = 200) -> Response:
    visit.form = FormData()
    return visit.render(
        "sign_in.html", status=status, next=local_path(wanted) if wanted else "", name=name, fault=fault
    )
