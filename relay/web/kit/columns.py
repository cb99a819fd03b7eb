"""Which columns of a list somebody wants to see: chosen on the list's page, and remembered by the browser."""

from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import Route

from relay.web.kit.cookies import cookie_of
from relay.web.kit.lists import Column
from relay.web.kit.page_request import STAFF, PageRequest, local_path, page
from relay.web.kit.site import Site

_YEAR = 365 * 24 * 3600


def columns_route(site: Site, path: str, columns: Sequence[Column]) -> Route:
    """Return the route that remembers the columns of the list at `path`."""

    async def remember(visit: PageRequest) -> Response:
        wanted = {value for value in visit.form.getlist("column") if isinstance(value, str)}
        chosen = [column.key for column in columns if column.is_optional and column.key in wanted]
        back = local_path(visit.text("back"))
        response = visit.redirect(back if back.partition("?")[0] == path else path)
        response.set_cookie(
            _cookie(path),
            ".".join(chosen) or "-",
            max_age=_YEAR,
            httponly=True,
            samesite="lax",
            secure=site.is_secure,
        )
        return response

    return page(f"{path}/-/columns", site, post=remember, posters=STAFF)


def chosen_columns(
    visit: PageRequest, path: str, columns: Sequence[Column], at_first: Sequence[str]
) -> Sequence[Column]:
    """Return the columns to show: those that always are, and of the others those that were chosen.

    SECURITY: a cookie is what anybody wrote; what it says counts only as far as it names columns.
    """
    said = cookie_of(visit.request, _cookie(path))
    wanted = set(at_first if said is None else said.split("."))
    return [column for column in columns if not column.is_optional or column.key in wanted]


def _cookie(path: str) -> str:
    return f"relay-columns-{path.strip('/')}"
