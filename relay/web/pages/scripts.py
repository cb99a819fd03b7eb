"""The pages of scripts: named rules about header fields of channels' and agents' mail."""

from starlette.responses import Response
from starlette.routing import Route

from relay.directory.kinds import SCRIPT
from relay.web.kit.entry_editing import Noun, editing_routes
from relay.web.kit.page_request import PageRequest, page
from relay.web.kit.site import Site

_NOUN = Noun(kind=SCRIPT)


def routes(site: Site) -> list[Route]:
    """Return the routes of scripts."""
    return [page(_NOUN.path, site, get=_list), *editing_routes(_NOUN, site)]


async def _list(visit: PageRequest) -> Response:
    return visit.render("scripts/list.html", records=await visit.run("script.list"))
