"""Connecting an agent's account by OAuth: a link to the provider, from which the browser comes back to our page.

Where the provider knows no address of ours to come back to, the person brings the address instead, as with the
command; where the server's client uses codes for devices, the page shows one and waits.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from relay.control.entries.authorizations import RETURN_PATH
from relay.control.refused import Refused
from relay.web.kit.authorization_state import Pending, forget, keep, kept
from relay.web.kit.page_request import AGENTS, PageRequest, page
from relay.web.kit.site import Site
from relay.web.kit.test_page import streamed
from relay.web.kit.words import sentences

_BROUGHT = "brought"


def account_routes(site: Site) -> list[Route]:
    """Return the routes of connecting the own account."""
    return [
        page("/profile/connect", site, post=_begin, posters=AGENTS),
        page("/profile/connect/address", site, post=_bring, posters=AGENTS),
        page(RETURN_PATH, site, get=_return, roles=AGENTS),
    ]


async def _begin(visit: PageRequest) -> Response:
    name = visit.actor.name
    sending = await visit.run("agent.sending", name=name)
    if sending["flow"] == "device":
        return streamed(visit, "connect_device.html", _device_parts(visit, name))
    is_brought = visit.text("way") == _BROUGHT
    back_to = "person" if is_brought else "page"
    async with aclosing(visit.stream("agent.authorize", name=name, back_to=back_to)) as items:
        item = await anext(items)
    if item["step"] != "visit":
        return visit.redirect("/profile", "Your account is connected.")
    response = visit.render(
        "connect.html", url=item["url"], is_brought=is_brought, ours=visit.site.public_url + RETURN_PATH
    )
    keep(visit, response, Pending(name=name, state=item["state"], verifier=item["verifier"]))
    return response


async def _return(visit: PageRequest) -> Response:
    """SECURITY: this changes something by GET, as the protocol wants it; the state in the cookie says it is ours."""
    return await _end(visit, str(visit.request.url), "page")


async def _bring(visit: PageRequest) -> Response:
    return await _end(visit, visit.text("address"), "person")


async def _end(visit: PageRequest, address: str, back_to: str) -> Response:
    pending = kept(visit)
    try:
        if pending is None or pending.name != visit.actor.name:
            raise Refused("this connection was not begun here, or too long ago; begin again")
        done = await visit.run(
            "agent.authorized",
            name=pending.name,
            redirect=address,
            state=pending.state,
            verifier=pending.verifier,
            back_to=back_to,
        )
    except Refused as error:
        response = visit.render("connect_failed.html", status=422, sentences=sentences(error))
    else:
        words = f"Your account is connected, but {done['warning']}" if done["warning"] else "Your account is connected."
        response = visit.redirect("/profile", words, is_done=not done["warning"])
    forget(response)
    return response


async def _device_parts(visit: PageRequest, name: str) -> AsyncGenerator[str, None]:
    """Yield the code and where it belongs, and at last what came of it."""
    outcome: dict[str, Any] = {"is_good": False, "sentence": ""}
    try:
        async with aclosing(visit.stream("agent.authorize", name=name)) as items:
            async for item in items:
                if item["step"] == "visit":
                    yield visit.html("_device_code.html", item=item)
                elif item["step"] == "authorized":
                    outcome = {"is_good": True, "sentence": item["warning"] or "Your account is connected."}
                else:  # so that a browser that is gone is noticed
                    yield "\n"
    except Refused as error:
        outcome = {"is_good": False, "sentence": str(error)}
    yield visit.html("_device_end.html", **outcome)
