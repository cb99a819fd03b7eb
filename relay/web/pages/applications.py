"""The pages of applications: logins of software that may send as several profiles."""

from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import Route

from relay.directory.model import Application
from relay.secrets.login_password import prepare
from relay.web.kit.entry_editing import Noun, Record, editing_routes
from relay.web.kit.forms import Field, Group
from relay.web.kit.lists import Column, Listing
from relay.web.kit.page_request import PageRequest, page
from relay.web.kit.site import Site

_COLUMNS = (
    Column("name", "Name", can_sort=False),
    Column("may_send_as", "May send as", can_sort=False),
    Column("login_set", "Login password", can_sort=False),
)


def routes(site: Site) -> list[Route]:
    """Return the routes of applications."""
    return [page(_NOUN.path, site, get=_list), *editing_routes(_NOUN, site)]


async def _list(visit: PageRequest) -> Response:
    records = await visit.run("application.list")
    listing = Listing.of(_NOUN.path, visit.query, _COLUMNS)
    wanted = listing.contains.casefold()
    shown = [one for one in records if wanted in f"{one['name']} {' '.join(one['may_send_as'])}".casefold()]
    return visit.render("applications/list.html", listing=listing, columns=_COLUMNS, records=shown, total=len(records))


async def _groups(visit: PageRequest, record: Record | None) -> Sequence[Group]:  # noqa: ARG001
    send_as = Field(
        key="may_send_as",
        label="May send as",
        kind="lines",
        is_required=True,
        placeholder="support\ngroup:sales",
        hint="One to a line: the name of a channel or agent, group:NAME for all agents of a group, or * for everybody.",
    )
    bounces = Field(
        key="bounces",
        label="Bounces are sent from",
        placeholder="support",
        hint="For a mail server that sends through Relay: the channel or agent its bounces are sent from. "
        "Defaults to the channel or agent a bounce is for.",
    )
    is_set = record is not None and record["login_set"]
    password = Field(
        key="password",
        label="Login password",
        kind="password",
        check=prepare,
        autocomplete="new-password",
        hint="Set; fill in to replace it." if is_set else "With which the software logs in at Relay.",
    )
    return (Group("", (send_as, bounces)), Group("Login", (password,)))


async def _set_password(visit: PageRequest, name: str) -> str:
    password = visit.secret("password")
    if password is None:
        return ""
    await visit.run("application.password", name=name, password=password)
    return "its login password is set"


_NOUN = Noun(
    word="application",
    path="/applications",
    model=Application,
    groups=_groups,
    templates="applications",
    finish=_set_password,
)
