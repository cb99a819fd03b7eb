"""The pages of who may come in: administrators, who may change everything, viewers, who look, and the API's tokens.

A token is shown once; only its digest is kept.
"""

from starlette.responses import Response
from starlette.routing import Route

from relay.control.people.results import AddedPerson, InvitationLink, PersonRecord, TokenRecord
from relay.control.refused import NotFound, Refused
from relay.web.kit.page_request import ADMINISTRATORS, PageRequest, page
from relay.web.kit.site import Site, segment

PATH = "/administrators"
ROLES = ("administrator", "viewer")
_TOKENS_PATH = f"{PATH}/-/tokens"


def routes(site: Site) -> list[Route]:
    """Return the routes of administrators."""
    return [
        page(PATH, site, get=_list),
        page(f"{PATH}/-/add", site, get=_new, post=_add, roles=ADMINISTRATORS),
        page(f"{PATH}/{{name}}", site, get=_edit, post=_save, roles=ADMINISTRATORS),
        page(f"{PATH}/{{name}}/password", site, post=_password),
        page(f"{PATH}/{{name}}/remove", site, get=_ask, post=_remove, roles=ADMINISTRATORS),
    ]


async def _list(visit: PageRequest) -> Response:
    people, tokens = await visit.run("admin.list"), await visit.run("token.list")
    return visit.render("administrators/list.html", people=people, tokens=tokens)


async def _new(visit: PageRequest) -> Response:
    return _show_new(visit)


async def _add(visit: PageRequest) -> Response:
    name, role, password = visit.text("name"), visit.text("role"), visit.secret("password")
    if not name:
        return _show_new(visit, faults={"name": "this is needed"})
    if visit.text("way") == "password" and password is None:
        return _show_new(visit, faults={"password": "give one, or choose the one-time link"})
    given = {"password": password} if visit.text("way") == "password" else {}
    try:
        done: AddedPerson = await visit.run("admin.add", name=name, role=role if role in ROLES else ROLES[0], **given)
    except Refused as error:
        key = error.key if error.key == "name" else "password" if given else "name"
        return _show_new(visit, faults={key: str(error)})
    if done.url is None:
        return visit.redirect(PATH, f"{name} is added")
    return _show_link(visit, name, done.url, done.expires)


async def _edit(visit: PageRequest) -> Response:
    return visit.render("administrators/edit.html", record=await _find(visit), roles=ROLES, faults={})


async def _save(visit: PageRequest) -> Response:
    record = await _find(visit)
    role = visit.text("role")
    try:
        await visit.run("admin.set", name=record.name, role=role if role in ROLES else record.role)
    except Refused as error:
        return visit.render(
            "administrators/edit.html", status=422, record=record, roles=ROLES, faults={"role": str(error)}
        )
    return visit.redirect(PATH, f"{record.name} is saved")


async def _password(visit: PageRequest) -> Response:
    record = await _find(visit)
    password = visit.secret("password")
    if visit.text("way") == "password" and password is None:
        faults = {"password": "type the new password, or make a one-time link"}
        return visit.render("administrators/edit.html", status=422, record=record, roles=ROLES, faults=faults)
    name = record.name
    try:
        if visit.text("way") != "password":
            link: InvitationLink = await visit.run("admin.invite", name=name)
            return _show_link(visit, name, link.url, link.expires)
        await visit.run("admin.password", name=name, password=password)
    except Refused as error:
        faults = {"password": str(error)}
        return visit.render("administrators/edit.html", status=422, record=record, roles=ROLES, faults=faults)
    return visit.redirect(f"{PATH}/{segment(name)}", f"the password of {name} is set")


async def _ask(visit: PageRequest) -> Response:
    return visit.render("administrators/remove.html", record=await _find(visit), sentences=())


async def _remove(visit: PageRequest) -> Response:
    record = await _find(visit)
    try:
        await visit.run("admin.remove", name=record.name)
    except Refused as error:
        sentences = str(error).splitlines()
        return visit.render("administrators/remove.html", status=409, record=record, sentences=sentences)
    return visit.redirect(PATH, f"{record.name} is removed")


async def _find(visit: PageRequest) -> PersonRecord:
    people: list[PersonRecord] = await visit.run("admin.list")
    for person in people:
        if person.name == visit.path["name"]:
            return person
    raise NotFound(f"there is no administrator or viewer '{visit.path['name']}'")


def _show_new(visit: PageRequest, *, faults: dict[str, str] | None = None) -> Response:
    """Show the form of a new one, with what was typed but for the password."""
    return visit.render(
        "administrators/add.html",
        status=422 if faults else 200,
        roles=ROLES,
        name=visit.text("name"),
        role=visit.text("role") or ROLES[0],
        way=visit.text("way") or "link",
        faults=faults or {},
    )


def _show_link(visit: PageRequest, name: str, url: str, expires: str | None) -> Response:
    """Show a one-time link, this once: only its digest is kept."""
    return visit.render("administrators/link.html", name=name, url=url, expires=expires)


def token_routes(site: Site) -> list[Route]:
    """Return the routes of tokens, which are listed with the administrators."""
    return [
        page("/tokens", site, get=_list_tokens),
        page(f"{_TOKENS_PATH}/add", site, get=_new_token, post=_add_token, roles=ADMINISTRATORS),
        page(f"{_TOKENS_PATH}/{{name}}/remove", site, get=_ask_token, post=_remove_token, roles=ADMINISTRATORS),
    ]


async def _list_tokens(visit: PageRequest) -> Response:
    return visit.redirect(f"{PATH}#tokens")


async def _new_token(visit: PageRequest) -> Response:
    return _show_new_token(visit, {})


async def _add_token(visit: PageRequest) -> Response:
    name, role = visit.text("name"), visit.text("role")
    if not name:
        return _show_new_token(visit, {"name": "this is needed"})
    try:
        done = await visit.run("token.add", name=name, role=role if role in ROLES else ROLES[1])
    except Refused as error:
        return _show_new_token(visit, {"name": str(error)})
    return visit.render("administrators/token.html", done=done)


async def _ask_token(visit: PageRequest) -> Response:
    return visit.render("administrators/token_remove.html", record=await _find_token(visit), sentences=())


async def _remove_token(visit: PageRequest) -> Response:
    name = visit.path["name"]
    await visit.run("token.remove", name=name)
    return visit.redirect(f"{PATH}#tokens", f"token {name} is removed")


async def _find_token(visit: PageRequest) -> TokenRecord:
    tokens: list[TokenRecord] = await visit.run("token.list")
    for token in tokens:
        if token.name == visit.path["name"]:
            return token
    raise NotFound(f"there is no token '{visit.path['name']}'")


def _show_new_token(visit: PageRequest, faults: dict[str, str]) -> Response:
    role = visit.text("role") or ROLES[1]
    status = 422 if faults else 200
    return visit.render(
        "administrators/token_add.html", status=status, roles=ROLES, name=visit.text("name"), role=role, faults=faults
    )
