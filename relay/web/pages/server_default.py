"""Changing the default server: who follows it is said beforehand."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from relay.web.site import segment
from relay.web.visit import Visit

_MOST_NAMES = 50


async def ask(visit: Visit) -> Response:
    """Say who would send through another server from then on."""
    record = await visit.run("server.show", name=visit.path["name"])
    before, followers = await _followers(visit)
    numbers = _numbers(followers)
    shown = followers[:_MOST_NAMES]
    return visit.render(
        "server_default.html", record=record, before=before, followers=shown, total=len(followers), numbers=numbers
    )


async def change(visit: Visit) -> Response:
    """Make a server the default."""
    name = visit.path["name"]
    done = await visit.run("server.default", name=name)
    count = len(done["followers"])
    who = {0: "nobody follows it yet", 1: "1 sender follows it"}.get(count, f"{count:,} senders follow it")
    return visit.redirect(f"/servers/{segment(name)}", f"{name} is the default server now; {who}")


async def followed(visit: Visit) -> str:
    """Return who would follow a new default, for the form of a new server."""
    before, followers = await _followers(visit)
    if before is None:
        return "The first server becomes the default by itself."
    if not followers:
        return f"The default is {before}, and nobody follows it yet."
    return f"The default is {before}; {_numbers(followers)} follow it and would send through this server from then on."


async def _followers(visit: Visit) -> tuple[str | None, list[Mapping[str, Any]]]:
    servers = await visit.run("server.list")
    default = next((one["name"] for one in servers if one["default"]), None)
    if default is None:
        return None, []
    return default, [one for one in await visit.run("server.users", name=default) if one["follows_default"]]


def _numbers(followers: list[Mapping[str, Any]]) -> str:
    counted = []
    for kind in ("channel", "agent"):
        count = sum(one["kind"] == kind for one in followers)
        if count:
            counted.append(f"{count:,} {kind}{'' if count == 1 else 's'}")
    return " and ".join(counted)
