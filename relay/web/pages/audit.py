"""The page of the audit: who changed what, when and by which way."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from relay.control.messages.results import Page
from relay.control.people.results import AuditRecord
from relay.control.refused import Refused
from relay.web.kit.lists import SPANS, Search
from relay.web.kit.page_request import PageRequest, page
from relay.web.kit.site import Site

PATH = "/audit"
_KEYS = ("who", "what", "operation")
_LONGEST = 300


def routes(site: Site) -> list[Route]:
    """Return the route of the audit."""
    return [page(PATH, site, get=_list)]


async def _list(visit: PageRequest) -> Response:
    asking = Search.of(PATH, visit.query, _KEYS)
    asked: dict[str, str] = {key: asking[key] for key in _KEYS if asking[key]}
    place = int(asking.at) if asking.at.isdecimal() and len(asking.at) < 16 else 0
    before = place or None
    found: Page[AuditRecord] = Page((), None)
    fault = ""
    try:
        found = await visit.run("audit.list", contains=asking["q"], **asked, **asking.times(), before=before)
    except Refused as error:
        fault = str(error)
    return visit.render(
        "administrators/audit.html",
        status=422 if fault else 200,
        asking=asking,
        spans=SPANS,
        nouns=_nouns(visit),
        is_folded=not asking.has_any((*_KEYS, "time", "from", "until")),
        entries=[replace(entry, changes=[_shown(change) for change in entry.changes]) for entry in found.items],
        next=found.next,
        fault=fault,
    )


def _nouns(visit: PageRequest) -> list[str]:
    """Return on what there are operations that change anything; "directory" is what an editor did."""
    operations = visit.site.operations
    return sorted({"directory", *(name.partition(".")[0] for name in operations.names if operations.is_change(name))})


def _shown(change: Mapping[str, Any]) -> dict[str, str]:
    return {"key": change["key"], "old": words(change["old"]), "new": words(change["new"])}


def words(value: Any) -> str:
    """Return a value as people write it; "nothing" where there was or is none."""
    if value in (None, "", [], {}):
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        text = ", ".join(map(str, value))
    elif isinstance(value, dict):
        text = "; ".join(f"{key}: {words(inner)}" for key, inner in value.items())
    else:
        text = str(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
