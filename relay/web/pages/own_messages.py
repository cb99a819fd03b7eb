"""An agent's own messages, and what became of each."""

from starlette.responses import Response
from starlette.routing import Route

from relay.control.messages.results import HistoryItem, JourneyRecord, Page, changed_headers
from relay.web.kit.page_request import AGENTS, PageRequest, page
from relay.web.kit.site import Site
from relay.web.kit.words import MEANINGS, STATES

RECENT = 5
_PART = 50


def message_routes(site: Site) -> list[Route]:
    """Return the routes of an agent's own messages."""
    return [
        page("/profile/messages", site, get=_list, roles=AGENTS),
        page("/profile/messages/{id}", site, get=_show, roles=AGENTS),
    ]


async def _list(visit: PageRequest) -> Response:
    after = visit.query.get("after") or None
    found: Page[HistoryItem] = await visit.run("agent.messages", name=visit.actor.name, limit=_PART, after=after)
    return visit.render("own_messages.html", items=found.items, after=after, following=found.next)


async def _show(visit: PageRequest) -> Response:
    message: JourneyRecord = await visit.run("agent.message", name=visit.actor.name, id=visit.path["id"])
    changed = changed_headers(message.attempts)
    return visit.render("own_message.html", message=message, changed=changed, states=STATES, meanings=MEANINGS)
