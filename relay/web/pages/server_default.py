"""Changing the default server: who follows it is said beforehand."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from relay.control.refused import NotFound, Refused
from relay.web.kit.page_request import PageRequest
from relay.web.kit.site import segment
from relay.web.kit.words import sentences

_MOST_NAMES = 20
_MOST_FAULTS = 10


async def ask(visit: PageRequest) -> Response:
    """Say who would send through another server from then on."""
    return await _show(visit)


async def change(visit: PageRequest) -> Response:
    """Make a server the default, or say who keeps it from being that."""
    name = visit.path["name"]
    try:
        done = await visit.run("server.default", name=name)
    except NotFound:
        raise
    except Refused as error:
        return await _show(visit, sentences(error), status=409)
    count = len(done["followers"])
    who = {0: "nobody follows it yet", 1: "1 sender follows it"}.get(count, f"{count:,} senders follow it")
    return visit.redirect(f"/servers/{segment(name)}", f"{name} is the default server now; {who}")


async def followed(visit: PageRequest) -> str:
    """Return who would follow a new default, for the form of a new server."""
    before, found = await _followers(visit)
    if before is None:
        return "The first server becomes the default by itself."
    if not found["total"]:
        return f"The default is {before}, and nobody follows it yet."
    follow = "follows" if found["total"] == 1 else "follow"
    return f"The default is {before}; {_numbers(found)} {follow} it and would send through this server from then on."


async def _show(visit: PageRequest, faults: Sequence[str] = (), *, status: int = 200) -> Response:
    name = visit.path["name"]
    record = await visit.run("server.show", name=name)
    before, found = await _followers(visit)
    stay = (await visit.run("server.followers", name=name))["stay"]
    more = len(faults) - _MOST_FAULTS
    said = [*faults[:_MOST_FAULTS], *([f"and {more:,} more like these"] if more > 0 else [])]
    shown = {"before": before, "followers": found["items"], "total": found["total"], "numbers": _numbers(found)}
    shown |= {"stay": stay[:_MOST_NAMES], "staying": len(stay)}
    return visit.render("servers/default.html", status=status, record=record, sentences=said, **shown)


async def _followers(visit: PageRequest) -> tuple[str | None, Mapping[str, Any]]:
    """Return the default server, and the first of those who follow it, as `server.users` says."""
    servers = await visit.run("server.list")
    default = next((one["name"] for one in servers if one["default"]), None)
    if default is None:
        return None, {"items": [], "total": 0, "channels": 0, "agents": 0}
    return default, await visit.run("server.users", name=default, following=True, limit=_MOST_NAMES)


def _numbers(found: Mapping[str, Any]) -> str:
    counted = []
    for kind in ("channel", "agent"):
        count = found[f"{kind}s"]
        if count:
            counted.append(f"{count:,} {kind}{'' if count == 1 else 's'}")
    return " and ".join(counted)
