"""/healthz, /readyz and /metrics: for programs that watch a relay.

`/healthz` says that the process answers, `/readyz` that it takes mail and has a good directory. They are for anybody;
the counters name servers, so from other machines they need a token.
"""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from relay import log
from relay.control.actor import Actor, Role, Way
from relay.metrics import CONTENT_TYPE
from relay.store.cluster.nodes import NodeState
from relay.web.kit.bearer import bearer_of
from relay.web.kit.guard import KNOWN_HOST
from relay.web.kit.site import Site

# What web servers add to a request that they pass on.
_FORWARDED = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"})
# What anybody may know of a store that refuses; relay status says more.
_UNREADABLE = "the store cannot be read"
_STORE = {
    "full": "the store is full",
    "read-only": "the store can only be read",
    "gone": "the store's files are gone",
    "away": "the store cannot be reached",
    "locked": "the store is locked",
    "damaged": "the store is damaged",
    "broken": "the store cannot be used",
}
_WATCHER = Actor(name="metrics", role=Role.VIEWER, way=Way.API)


def routes(site: Site) -> list[Route]:
    """Return the routes of the watchers."""

    async def healthy(request: Request) -> Response:  # noqa: ARG001
        return PlainTextResponse("ok\n")

    async def ready(request: Request) -> Response:  # noqa: ARG001
        status = await _told(site, "status")
        if status is None or not status.store.ok:
            words = _STORE.get(status.store.reason, _UNREADABLE) if status else _UNREADABLE
            return JSONResponse({"ready": False, "reason": words}, status_code=503)
        reasons = [] if status.directory.ok else ["the directory has faults, and the one before stays in effect"]
        if not status.listeners:
            reasons.append("no listener is open")
        if status.state != NodeState.SERVING:
            reasons.append(f"the node is {status.state}")
        return JSONResponse({"ready": not reasons, "reason": "; ".join(reasons)}, status_code=503 if reasons else 200)

    async def metrics(request: Request) -> Response:
        is_open = _is_here(request) and request.scope[KNOWN_HOST]
        if not is_open and await bearer_of(request, site) is None:
            return PlainTextResponse(
                "the counters need a token from here: Authorization: Bearer TOKEN\n", status_code=401
            )
        text = await _told(site, "metrics")
        if text is None:
            return PlainTextResponse("the store cannot be read; relay's log says why\n", status_code=503)
        return Response(text, media_type=CONTENT_TYPE)

    return [Route("/healthz", healthy), Route("/readyz", ready), Route("/metrics", metrics)]


async def _told(site: Site, operation: str) -> Any:
    """Return what an operation says; None where it cannot, whatever the reason is: a watcher must hear of it."""
    try:
        return await site.operations.run(operation, {}, _WATCHER)
    except Exception as error:
        log.broken("a watcher cannot be told how the relay is", operation=operation, error=type(error).__name__)
        return None


def _is_here(request: Request) -> bool:
    """Whether a program of this machine asks, and none for somebody else: what a proxy passes on says so."""
    if _FORWARDED.intersection(request.headers.keys()):
        return False
    name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    peer = request.client.host if request.client else ""
    return _is_loopback(peer) and (name == "localhost" or _is_loopback(name))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
