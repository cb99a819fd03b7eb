"""The API as one ASGI application, with its own description (OpenAPI) at /api/v1/openapi.json."""

import json
from asyncio import Lock, to_thread

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from relay import __version__
from relay.web.api import entries, mail, people, secrets, system, trials
from relay.web.api.door import Door
from relay.web.api.problems import Problem, add_handlers
from relay.web.site import Site

PREFIX = "/api/v1"
_DESCRIPTION = (
    "Everything that the pages and the commands do. A request bears `Authorization: Bearer TOKEN`; "
    "`relay token add NAME` makes one for a viewer, who changes nothing; with `--role administrator` for all of it. "
    "Times are RFC 3339 in UTC. A refusal is `application/problem+json` with the keys at fault. "
    "An entry has an ETag: a change with `If-Match` is refused with 412 where somebody else was faster."
)


def make_api(site: Site) -> ASGIApp:
    """Return the API of a site, to be mounted at PREFIX."""
    api = FastAPI(
        title="Relay",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": PREFIX}],
        root_path_in_servers=False,
    )
    api.state.site = site
    add_handlers(api)
    for module in (system, trials, secrets, entries, mail, people):
        api.include_router(module.router())
    _describe_problems(api)
    api.add_route("/openapi.json", _Description(api).answer, include_in_schema=False)
    _make_ready(api)
    api.add_middleware(Door, site=site, is_open={"/openapi.json"})
    return api


class _Description:
    """The page of the description, which takes a fifth of a second to put together: once, and in a thread."""

    def __init__(self, api: FastAPI) -> None:
        self._api = api
        self._turn = Lock()
        self._content: bytes | None = None

    async def answer(self, request: Request) -> Response:  # noqa: ARG002
        """Return it as JSON."""
        async with self._turn:
            if self._content is None:
                self._content = await to_thread(self._text)
        return Response(self._content, media_type="application/json")

    def _text(self) -> bytes:
        return json.dumps(self._api.openapi(), ensure_ascii=False).encode()


def _make_ready(api: FastAPI) -> None:
    """Let every route be made now. FastAPI would do it when a request first passes them, and hold the loop up."""
    for route in api.routes:
        route.matches({"type": "http", "method": "GET", "path": "", "root_path": "", "headers": []})


def _describe_problems(api: FastAPI) -> None:
    """Add the schema of problems to the description, which every refusal refers to."""
    describe = api.openapi

    def with_problems() -> dict[str, object]:
        described = describe()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = described["components"]["schemas"]
        schemas.update(schema.pop("$defs", {}))
        schemas["Problem"] = schema
        return described

    api.openapi = with_problems  # type: ignore[method-assign]
