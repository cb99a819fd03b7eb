"""A relay that has one of everything, every route that it answers, and an address for each: for walks through all."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from relay.config.endpoint import TcpAddress
from relay.control.operations import Operations
from relay.control.people.admission import Admission
from relay.web.api.app import PREFIX
from relay.web.app import make_app
from relay.web.kit.change_watcher import ChangeWatcher
from relay.web.kit.guard import Guard
from relay.web.kit.site import Site, make_templates
from tests.pages.posting import post
from tests.peers.api import ApiClient
from tests.peers.canaries import canary
from tests.peers.console import Console, console_process
from tests.peers.relay import one_channel, open_server
from tests.peers.system import wait_until

AGENT = "jane"
ADDRESS = "jane@acmejets.example"
# What stands in a path, by what stands before it.
_NAMES: Mapping[str, str] = {
    "accounts": "acmejets",
    "acmejets": "support@acmejets.example",
    "administrators": "root",
    "admins": "root",
    "agents": AGENT,
    "alerts": "1",
    "applications": "shop",
    "channels": "support",
    "nodes": "one",
    "scripts": "default",
    "servers": "acmejets",
    "tokens": "reader",
    "static": "relay.css",
    "webhooks": "1",
    "welcome": "no-such-link",
}


@dataclass(frozen=True, slots=True)
class House:
    """The relay, tokens of both roles, a message that was delivered, and one that waits for a person."""

    console: Console
    writer: ApiClient
    reader: ApiClient
    delivered: str
    held: str

    def filled(self, path: str) -> str:
        """Return an address of a route, of what there is."""
        parts = path.split("/")
        for at, part in enumerate(parts):
            if not part.startswith("{"):
                continue
            is_message = parts[at - 1] in {"messages", "queue"}
            waits = "queue" in parts or parts[-1] == "content"
            parts[at] = (self.held if waits else self.delivered) if is_message else _NAMES[parts[at - 1]]
        return "/".join(parts)

    @property
    def everything(self) -> tuple[bytes, list[str]]:
        """The directory file, and all that the store has but for when somebody was seen last."""
        return self.console.relay.directory_file.read_bytes(), rows_of(self.console)


@contextmanager
def full_house(upstream_port: int) -> Iterator[House]:
    """A house before this upstream; passwords are canaries."""
    directory: dict[str, Any] = one_channel(open_server(upstream_port))
    directory["agents"] = {
        AGENT: {"address": ADDRESS, "override": True, "full_name": "Jane Doe", "group": "flights"},
        "ben": {"address": "ben@acmejets.example"},
    }
    directory["applications"] = {"shop": {"may_send_as": ["*"]}}
    directory["scripts"] = {"default": {"set_headers": {"Organization": "Acme Jets"}}}
    with console_process(directory, {"node": "one", "delivery": {"mode": "auto", "retry": ["1h"]}}) as console:
        writer = ApiClient(console.url, console.add_token("writer"))
        reader = ApiClient(console.url, writer.ask("POST", "/tokens", {"name": "reader"}).json["token"])
        for path in (f"/agents/{AGENT}/login", "/agents/ben/login", "/applications/shop/login"):
            name = path.split("/")[2]
            assert writer.ask("PUT", path, {"password": canary(name)}).status == 204
        yield House(console, writer, reader, *_messages(console, writer))


def _messages(console: Console, writer: ApiClient) -> tuple[str, str]:
    """Send two messages, and return the id of the one that was delivered and of the one that waits for a person."""
    post(console, "Delivered")
    wait_until(lambda: writer.get("/messages")["items"], "the message in the history")
    delivered = str(writer.get("/messages")["items"][0]["id"])
    port = writer.get("/servers/acmejets")["port"]
    writer.ask("PATCH", "/servers/acmejets", {"port": 1})
    post(console, "Held")
    # Its one attempt is over before it is held; the next one is an hour away.
    waiting = wait_until(
        lambda: [one for one in writer.get("/queue")["items"] if one["state"] == "queued" and one["reason"]],
        "the first attempt",
    )
    held = str(waiting[0]["id"])
    assert writer.ask("POST", f"/queue/{held}/hold").status == 200
    writer.ask("PATCH", "/servers/acmejets", {"port": port})
    return delivered, held


def rows_of(console: Console) -> list[str]:
    """Return all rows of the store, without the times at which somebody was seen."""
    found = []
    with closing(sqlite3.connect(f"file:{console.relay.state_dir / 'relay.db'}?mode=ro", uri=True)) as store:
        tables = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name")]
        for table in tables:
            columns = [row[1] for row in store.execute(f"PRAGMA table_info('{table}')")]
            kept = ", ".join(f'"{one}"' for one in columns if one not in {"seen", "used"})
            found += sorted(f"{table}: {row!r}" for row in store.execute(f'SELECT {kept} FROM "{table}"'))
    return found


def page_routes() -> list[tuple[str, frozenset[str]]]:
    """Return path and methods of every route but those of the API."""
    return [
        (f"{route.path}/{{path}}", frozenset({"GET"})) if isinstance(route, Mount) else _route(route)
        for route in _app().routes
        if not (isinstance(route, Mount) and route.path == PREFIX)
    ]


def _route(route: object) -> tuple[str, frozenset[str]]:
    assert isinstance(route, Route)
    return route.path, frozenset(route.methods or ()) - {"HEAD"}


def _app() -> Starlette:
    guard = make_app(_site(), TcpAddress("127.0.0.1", 8025))
    assert isinstance(guard, Guard)
    assert isinstance(guard._app, Starlette)
    return guard._app


def _site() -> Site:
    """A site whose routes are looked at, and never asked."""
    nothing = cast("Operations", None), cast("Admission", None)
    return Site(*nothing, lambda: "http://127.0.0.1:8025", make_templates("relay.test"), ChangeWatcher(int))
