"""The pages of the API's bearer tokens. A token is shown once; only its digest is kept."""

from starlette.responses import Response
from starlette.routing import Route

from relay.control.people.results import TokenRecord
from relay.control.refused import NotFound, Refused
from relay.web.kit.page_request import ADMINISTRATORS, PageRequest, page
from relay.web.kit.site import Site
from relay.web.pages.administrators import PATH as PEOPLE
from relay.web.pages.administrators import ROLES

_PATH = f"{PEOPLE}/-/tokens"


def routes(site: Site) -> list[Route]:
    """Return the routes of tokens, which are listed with the administrators."""
    return [
        page("/tokens", site, get=_list),
        page(f"{_PATH}/add", site, get=_new, post=_add, roles=ADMINISTRATORS),
        page(f"{_PATH}/{{name}}/remove", site, get=_ask, post=_remove, roles=ADMINISTRATORS),
    ]


async def _list(visit: PageRequest) -> Response:
    return visit.redirect(f"{PEOPLE}#tokens")


async def _new(visit: PageRequest) -> Response:
    return _show(visit, {})


async def _add(visit: PageRequest) -> Response:
    name, role = visit.text("name"), visit.text("role")
    if not name:
        return _show(visit, {"name": "this is needed"})
    try:
        done = await visit.run("token.add", name=name, role=role if role in ROLES else ROLES[1])
    except Refused as error:
        return _show(visit, {"name": str(error)})
    return visit.render("token.html", done=done)


async def _ask(visit: PageRequest) -> Response:
    return visit.render("token_remove.html", record=await _find(visit), sentences=())


async def _remove(visit: PageRequest) -> Response:
    name = visit.path["name"]
    await visit.run("token.remove", name=name)
    return visit.redirect(f"{PEOPLE}#tokens", f"token {name} is removed")


async def _find(visit: PageRequest) -> TokenRecord:
    tokens: list[TokenRecord] = await visit.run("token.list")
    for token in tokens:
        if token.name == visit.path["name"]:
            return token
    raise NotFound(f"there is no token '{visit.path['name']}'")


def _show(visit: PageRequest, faults: dict[str, str]) -> Response:
    role = visit.text("role") or ROLES[1]
    status = 422 if faults else 200
    return visit.render("token_add.html", status=status, roles=ROLES, name=visit.text("name"), role=role, faults=faults)
