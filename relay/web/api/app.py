"""The API as one ASGI application, with its own description (OpenAPI) at /api/v1/openapi.json.

The description is for people and programs that have nothing else. What the framework writes is completed here: the
example of each body, the role that each operation needs, as the operations themselves have it, and what the refusals
are.
"""

import json
from asyncio import Lock, to_thread
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from relay import __version__
from relay.control.actor import Actor, Role, Way
from relay.control.operations import Operations
from relay.web.api import entries, messages, people, queue, routes, secrets, sheets, system, trials, webhooks
from relay.web.api.bodies import example_of
from relay.web.api.problems import Problem, add_handlers, described_problems, name_of_problem
from relay.web.api.request_checks import ApiRoute, RequestChecks
from relay.web.kit.site import Site

INTRODUCTION = """\
Everything that the pages and the commands do. Requests and answers are JSON in UTF-8, unless an operation says
otherwise; a request with a body has `Content-Type: application/json`. This document is at `/api/v1/openapi.json`, for
everybody.

## Who asks

A request bears `Authorization: Bearer TOKEN`. `relay token add NAME` on the machine makes a token for a viewer, with
`--role administrator` one for an administrator, and `POST /tokens` makes others. Each is shown once, and opens nothing
from the moment it is removed. Without a token that counts, every address but that of this document answers 401, also
one that there is not, before anything else of the request is looked at. Cookies of the pages count for nothing here.

    curl -H "Authorization: Bearer $TOKEN" 'https://relay.acmejets.example/api/v1/agents?contains=jane'

## Roles

A token is for an administrator, who may do everything, or for a viewer, who looks at nearly everything and changes
nothing; what it may not do is 403. Each operation says which role it needs, in its text and in its `security`.

## Versions

An entry of the directory (server, channel, agent, application, script) has an `ETag`, which is also its `version`. A
change or removal with that in `If-Match` is made only where the entry is still the same; else it is 412, and nothing
was done. Without `If-Match` the last one to write wins. A change (`PATCH`) has the keys that change and no others; null
restores a default. What changes is in effect when the answer comes.

## Refusals

A refusal is `application/problem+json` (RFC 9457): `status`, `title`, `detail`, which is a sentence for people with
what to do, one fault a line, and `errors`, which has the key and the sentence of each value at fault. A key is that of
the request (`host`), or stands in the directory (`channels.support.server`) where another entry is at fault. Nothing is
done in part. An address that there is not is 404, one that takes no such method 405 with `Allow`; 500 is a fault of
ours, which relay's log explains. After 503 the same request may work later.

## Lists

Lists of entries are told in parts: `start` and `limit` choose one, and `total` says how many match in all. The history,
the queue and the audit grow while they are read, so there a part ends with `next`; given back as `after` (in the audit:
`before`) it brings the next one, and null is the end. Short lists are told whole.

## Values

Times are RFC 3339 in UTC (`2026-11-24T10:05:00Z`); a time that is asked for may have another zone. An account is
written SERVER/USERNAME. A part of a path with a `/` or `%` in it is quoted (`%2F`). An answer may have keys in a later
version that it does not have here.

## Passwords

They go in by requests of their own and never come out. `password_from` is shown and not taken: it names files and
programs of the machine. So is `ca_file`, which names a file.

## Limits

A body has at most 1 MiB, a table (CSV) 16 MiB, and comes within 2 minutes; an answer of which nothing is read for 60
seconds ends. 250 connections are served at once, those of the pages included; one more takes the place of the one that
has waited longest without asking anything.
"""
TAGS: Mapping[str, str] = {
    "relay": "How the relay is, and which way mail takes.",
    "servers": "Where mail is handed on: providers' submission services.",
    "channels": "Shared sending addresses.",
    "agents": "People's sending addresses.",
    "applications": "Logins of software that sends as several channels or agents.",
    "scripts": "Named header rules.",
    "secrets": "Where passwords are kept.",
    "messages": "The history of all messages.",
    "queue": "Messages that wait.",
    "accounts": "Whom mail logs in as at a server. What holds mail holds its account.",
    "nodes": "The relays that use one store, each on a machine of its own.",
    "alerts": "Who is told when something needs a person.",
    "webhooks": "Programs that are told what becomes of messages.",
    "administrators": "People of the pages.",
    "tokens": "Programs of this API.",
    "audit": "Who changed what.",
}
_VIEWER = Actor(name="", role=Role.VIEWER, way=Way.API)
# In this order the description has them.
_ROUTES = (
    system.add_routes,
    routes.add_routes,
    trials.add_routes,
    sheets.add_routes,
    secrets.add_routes,
    entries.add_routes,
    messages.add_routes,
    queue.add_routes,
    system.add_account_routes,
    system.add_node_routes,
    webhooks.add_routes,
    webhooks.add_alert_routes,
    people.add_routes,
)
PREFIX = "/api/v1"


class Description:
    """The page of the description, which takes a while to put together: once, and in a thread."""

    def __init__(self, api: FastAPI, operations: Operations) -> None:
        self._api = api
        self._operations = operations
        self._turn = Lock()
        self._content: bytes | None = None

    async def answer(self, request: Request) -> Response:  # noqa: ARG002
        """Return it as JSON."""
        async with self._turn:
            if self._content is None:
                self._content = await to_thread(self._text)
        return Response(self._content, media_type="application/json")

    def _text(self) -> bytes:
        return json.dumps(described(self._api, self._operations), ensure_ascii=False).encode()


def described(api: FastAPI, operations: Operations) -> dict[str, Any]:
    """Return the description of an API, each of whose requests is named after one of the operations."""
    document = api.openapi()
    for route in api.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                _complete(document["paths"][route.path_format][method.lower()], route, operations)
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = document["components"]
    parts["schemas"] |= {**schema.pop("$defs", {}), "Problem": schema}
    parts["responses"] = described_problems()
    return document


def _complete(operation: dict[str, Any], route: APIRoute, operations: Operations) -> None:
    """Add to one request what the framework does not know, or would lose: it drops each null of an example."""
    if route.body_field is not None:
        _json(operation["requestBody"])["example"] = example_of(route.body_field.field_info.annotation)
    if route.response_model is not None:
        _json(operation["responses"][str(route.status_code)])["example"] = example_of(route.response_model)
    for status in operation["responses"]:
        if int(status) >= 400:
            operation["responses"][status] = {"$ref": f"#/components/responses/{name_of_problem(int(status))}"}
    is_for_viewers = operations.allows(operation["operationId"], {}, _VIEWER)
    role = Role.VIEWER if is_for_viewers else Role.ADMINISTRATOR
    operation["security"] = [{name: [str(role)] for name in scheme} for scheme in operation["security"]]
    words = operation.get("description", "").removeprefix(f"{operation['summary']}.").strip()
    who = "For viewers and administrators." if is_for_viewers else "For administrators alone."
    operation["description"] = f"{words}\n\n{who}".strip()


def _json(part: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = part["content"]["application/json"]
    return content


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
    for add_routes in _ROUTES:
        # Not by include_router, which would make each route when a request first passes it, and hold the loop up.
        add_routes(api.router)
    api.add_route("/openapi.json", Description(api, site.operations).answer, include_in_schema=False)
    api.add_middleware(RequestChecks, site=site, is_open={"/openapi.json"})
    return api
