"""Who asks with a bearer token."""

from starlette.requests import Request

from relay.control.actor import Actor
from relay.web.kit.site import Site


async def bearer_of(request: Request, site: Site) -> Actor | None:
    """Return whose token a request bears; None for nobody's. Raises Refused."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    peer = request.client.host if request.client else ""
    return await site.admission.bearer(token.strip(), peer) if scheme.lower() == "bearer" else None
