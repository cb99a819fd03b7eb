"""The pages of scripts: named rules about header fields of channels' and agents' mail."""

from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import Route

from relay.directory.model import Script
from relay.web.kit.entry_editing import Noun, Record, editing_routes
from relay.web.kit.forms import Field, Group
from relay.web.kit.page_request import PageRequest, page
from relay.web.kit.site import Site

_SET = Field(
    key="set_headers",
    label="Set these fields",
    kind="headers",
    placeholder="Organization: Acme Jets",
    hint="One to a line, as “Name: value”. A field that the message has already is replaced.",
    attributes={"spellcheck": "false"},
)
_REMOVE = Field(
    key="remove_headers",
    label="Remove these fields",
    kind="lines",
    placeholder="X-Originating-IP",
    hint="One name to a line.",
    attributes={"spellcheck": "false"},
)


def routes(site: Site) -> list[Route]:
    """Return the routes of scripts."""
    return [page(_NOUN.path, site, get=_list), *editing_routes(_NOUN, site)]


async def _list(visit: PageRequest) -> Response:
    return visit.render("scripts/list.html", records=await visit.run("script.list"))


async def _groups(visit: PageRequest, record: Record | None) -> Sequence[Group]:  # noqa: ARG001
    return (Group("", (_SET, _REMOVE)),)


_NOUN = Noun(word="script", path="/scripts", model=Script, groups=_groups, templates="scripts")
