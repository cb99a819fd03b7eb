"""One request of one person to one page: who it is, what was posted, and the ways to answer.

A page is an async function of a PageRequest. `page` makes a route of it: it looks who is signed in and whether the role
may see the page, reads a posted form and checks its key, and tells a refusal on a page of its own.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from relay.control.actor import Actor, Role
from relay.control.people.admission import WebSession
from relay.control.refused import Forbidden, NotFound, Refused, Unavailable
from relay.web.kit.cookies import cookie_of
from relay.web.kit.operation_words import as_told, sentences, title
from relay.web.kit.posted_form import posted_form
from relay.web.kit.site import Site

Handler: TypeAlias = Callable[["PageRequest"], Awaitable[Response]]

STAFF = frozenset({Role.ADMINISTRATOR, Role.VIEWER})
ADMINISTRATORS = frozenset({Role.ADMINISTRATOR})
AGENTS = frozenset({Role.AGENT})
EVERYBODY = STAFF | AGENTS

FORM_KEY = "form_key"
# With it relay.js reads a page again that shows what changes, while perhaps nobody looks.
BY_ITSELF = "relay-by-itself"
_NOTICE = "relay-notice"
_NOT_DONE = "!warn"  # behind a notice; quoted text has no "!"
_MOST_FIELDS = 500
_LONGEST_NOTICE = 1500  # octets; the guard takes 4 KiB of cookies in all
_HALF_CHARACTER = re.compile(r"(?:%[C-F][0-9A-F])?(?:%[89AB][0-9A-F])*%?[0-9A-F]?$")
_REDIRECT = 303


class Notice(NamedTuple):
    """What a page shows once about what was just done: `kind` is how it looks, as a class in relay.css."""

    kind: Literal["good", "warn"]
    text: str

    @classmethod
    def read(cls, cookie: str) -> "Notice":
        """Return the notice in a cookie, whoever laid it there; "" for none."""
        is_warning = cookie.endswith(_NOT_DONE)
        return cls("warn" if is_warning else "good", unquote(cookie.removesuffix(_NOT_DONE)))


@dataclass(slots=True)
class PageRequest:
    """A request, the site that it came to, and who is signed in. `form` is empty unless something was posted."""

    request: Request
    site: Site
    session: WebSession | None
    form: FormData = field(default_factory=FormData)

    @property
    def actor(self) -> Actor:
        """Who asks. Pages without a sign-in have nobody to ask for."""
        if self.session is None:
            raise HTTPException(401)
        return self.session.actor

    @property
    def query(self) -> Mapping[str, str]:
        """What stands behind the "?" of the address; of a name that stands there twice the last one."""
        return self.request.query_params

    @property
    def path(self) -> Mapping[str, Any]:
        """The parameters in the path."""
        return self.request.path_params

    @property
    def peer(self) -> str:
        """The address that the request comes from."""
        return self.request.client.host if self.request.client else ""

    async def run(self, operation: str, /, **params: Any) -> Any:
        """Return the result of an operation. Raises Refused, in the words of pages."""
        with as_told(self.actor):
            return await self.site.operations.run(operation, params, self.actor)

    async def stream(self, operation: str, /, **params: Any) -> AsyncGenerator[Any]:
        """Yield the items of an operation as they come. Raises Refused, in the words of pages."""
        with as_told(self.actor):
            async with aclosing(self.site.operations.stream(operation, params, self.actor)) as items:
                async for item in items:
                    yield item

    def text(self, name: str) -> str:
        """Return a posted value, without blanks around it; "" for none, and for a file."""
        value = self.form.get(name)
        return value.strip() if isinstance(value, str) else ""

    def secret(self, name: str) -> str | None:
        """Return a posted password as it is; None where the field was left empty."""
        value = self.form.get(name)
        return value if isinstance(value, str) and value else None

    def html(self, template: str, /, **values: Any) -> str:
        """Return a template filled with these values and with what every page knows."""
        common = {
            "visit": self,
            "session": self.session,
            "actor": self.session.actor if self.session else None,
            "may_change": bool(self.session) and self.actor.role is Role.ADMINISTRATOR,
            "path": self.request.url.path,
            "notice": Notice.read(cookie_of(self.request, _NOTICE) or ""),
        }
        return self.site.templates.get_template(template).render({**common, **values})

    def render(self, template: str, /, *, status: int = 200, **values: Any) -> Response:
        """Return a page."""
        response = HTMLResponse(self.html(template, **values), status_code=status)
        # A page that looks again by itself takes only its own parts, and shows no notice.
        if cookie_of(self.request, _NOTICE) is not None and BY_ITSELF not in self.request.headers:
            response.delete_cookie(_NOTICE)
        return response

    def redirect(self, where: str, notice: str = "", *, is_done: bool = True) -> Response:
        """Send the browser to another page, which shows `notice` once; not as good news where not all `is_done`."""
        response = RedirectResponse(where, status_code=_REDIRECT)
        if notice:
            # SameSite is lax: who comes back from an identity provider sees the notice, too.
            secure = self.site.is_secure
            value = _cut(quote(notice[:500])) + ("" if is_done else _NOT_DONE)
            response.set_cookie(_NOTICE, value, max_age=60, httponly=True, samesite="lax", secure=secure)
        return response

    def refuse(self, error: Refused, *, status: int | None = None) -> Response:
        """Return the page of an operation that said no."""
        found = [number for kind, number in _STATUSES if isinstance(error, kind)]
        return self.say_no(found[0] if found else status or 409, *sentences(error))

    def say_no(self, status: int, *sentences: str) -> Response:
        """Return the page that says why something was not done."""
        return self.render("refused.html", status=status, title=title(status), sentences=sentences)


def page(
    path: str,
    site: Site,
    *,
    get: Handler | None = None,
    post: Handler | None = None,
    roles: frozenset[Role] = STAFF,
    posters: frozenset[Role] = ADMINISTRATORS,
    takes_file: bool = False,
) -> Route:
    """Return the route of a page that `roles` see, and whose form `posters` send, with a file where it `takes_file`."""
    by_method = {method: handler for method, handler in (("GET", get), ("POST", post)) if handler is not None}

    async def answer(request: Request) -> Response:
        visit = PageRequest(request, site, await session_of(request, site))
        handler = by_method["POST" if request.method == "POST" else "GET"]
        if visit.session is None:
            return _to_sign_in(visit)
        if visit.actor.role not in (posters if request.method == "POST" else roles):
            return visit.say_no(403, _not_for(visit.actor.role))
        if request.method == "POST":
            visit.form = await posted_form(request, most_fields=_MOST_FIELDS, takes_file=takes_file)
            if not is_own_form(visit.form, visit.session):
                return visit.say_no(403, _OLD_FORM)
        try:
            return await handler(visit)
        except Refused as error:
            return visit.refuse(error)

    return Route(path, answer, methods=[*by_method], name=path)


_STATUSES = ((Unavailable, 503), (Forbidden, 403), (NotFound, 404))
_INSTEAD = {
    Role.ADMINISTRATOR: "it is for agents, each of whom has one",
    Role.VIEWER: "a viewer looks at everything and changes nothing; ask an administrator",
    Role.AGENT: "you find what is yours on My profile",
}
_OLD_FORM = "this form is out of date; go back, open the page anew and send it again"


async def session_of(request: Request, site: Site) -> WebSession | None:
    """Return the session that the request's cookie stands for."""
    cookie = cookie_of(request, site.cookie_name)
    peer = request.client.host if request.client else ""
    is_use = BY_ITSELF not in request.headers
    return await site.admission.session(cookie, peer, is_use=is_use) if cookie else None


def _not_for(role: Role) -> str:
    return f"this page is not for the role {role}: {_INSTEAD[role]}"


def _cut(quoted: str) -> str:
    """Return quoted text as long as it fits beside our other cookies, without half a character at its end."""
    return quoted if len(quoted) <= _LONGEST_NOTICE else _HALF_CHARACTER.sub("", quoted[:_LONGEST_NOTICE])


def is_own_form(form: FormData, session: WebSession) -> bool:
    """Whether a form bears the key of this session: then one of our pages had it."""
    given = form.get(FORM_KEY)
    return isinstance(given, str) and compare_digest(given.encode(), session.form_key.encode())


def local_path(wanted: str) -> str:
    """Return a path of this server to go on with; "/" for what leads elsewhere."""
    try:
        parts = urlsplit(wanted)
    except ValueError:  # "http://["
        return "/"
    is_here = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return wanted if is_here and wanted.isprintable() else "/"


def _to_sign_in(visit: PageRequest) -> Response:
    url = visit.request.url
    if visit.request.method != "GET" or url.path == "/":
        return visit.redirect("/sign-in")
    where = url.path + (f"?{url.query}" if url.query else "")
    return visit.redirect(f"/sign-in?next={quote(where, safe='')}")
