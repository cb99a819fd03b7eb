"""The API as one ASGI application, with its own description (OpenAPI) at /api/v1/openapi.json."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from relay import __version__
from relay.web.api import accounts, entries, messages, nodes, people, queue, secrets, sheets, system, trials, ways
from relay.web.api.description import INTRODUCTION, TAGS, Description
from relay.web.api.door import Door
from relay.web.api.problems import add_handlers
from relay.web.api.reading import ApiRoute
from relay.web.kit.site import Site

PREFIX = "/api/v1"


def make_api(site: Site) -> ASGIApp:
    """Return the API of a site, to be mounted at PREFIX."""
    api = FastAPI(
        title="Relay",
        version=__version__,
        description=INTRODUCTION,
        openapi_tags=[{"name": name, "description": words} for name, words in TAGS.items()],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": PREFIX}],
        root_path_in_servers=False,
    )
    api.state.site = site
    api.router.route_class = ApiRoute
    add_handlers(api)
    for module in (system, ways, trials, sheets, secrets, entries, messages, queue, accounts, nodes, people):
        # Not by include_router, which would make each route when a request first passes it, and hold the loop up.
        module.add_routes(api.router)
    api.add_route("/openapi.json", Description(api, site.operations).answer, include_in_schema=False)
    api.add_middleware(Door, site=site, is_open={"/openapi.json"})
    return api
