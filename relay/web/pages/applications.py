"""The pages of applications: logins of software that may send as several profiles."""

from collections.abc import Mapping

from starlette.responses import Response
from starlette.routing import Route

from relay.directory.kinds import APPLICATION
from relay.web.kit.entry_editing import Noun, Record, editing_routes
from relay.web.kit.forms import Field
from relay.web.kit.key_fields import columns_for
from relay.web.kit.lists import Listing
from relay.web.kit.page_request import PageRequest, page
from relay.web.kit.site import Site
from relay.web.pages.secret_fields import LOGIN_PASSWORD, REPLACE, SetSecret, has_login, login_field, set_secrets

_COLUMNS = columns_for(APPLICATION, can_sort=False)


def routes(site: Site) -> list[Route]:
    """Return the routes of applications."""
    return [page(_NOUN.path, site, get=_list), *editing_routes(_NOUN, site)]


async def _list(visit: PageRequest) -> Response:
    records = await visit.run("application.list")
    listing = Listing.of(_NOUN.path, visit.query, _COLUMNS)
    wanted = listing.contains.casefold()
    shown = [one for one in records if wanted in f"{one['name']} {' '.join(one['may_send_as'])}".casefold()]
    return visit.render("applications/list.html", listing=listing, columns=_COLUMNS, records=shown, total=len(records))


async def _special(visit: PageRequest, record: Record | None) -> Mapping[str, Field | None]:  # noqa: ARG001
    hint = REPLACE if has_login(record) else "Used by the software to log in at Relay."
    return {LOGIN_PASSWORD: login_field(hint)}


async def _finish(visit: PageRequest, name: str) -> str:
    secret = SetSecret(LOGIN_PASSWORD, "application.password", "its login password is set")
    return "; ".join(await set_secrets(visit, name, [secret]))


_NOUN = Noun(kind=APPLICATION, special=_special, finish=_finish)
