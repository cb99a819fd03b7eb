"""Ten thousand agents: every list of pages and API is quick, so is saving one, and nothing holds the loop up."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.bench.bound import Bound
from tests.bench.watching import Watched, watched
from tests.peers.api import ApiClient
from tests.peers.console import ADMINISTRATOR, Console
from tests.peers.form_filler import FormFiller
from tests.peers.relay import open_server, relay_process
from tests.peers.system import LOOPBACK, free_port, wait_until

CHANNELS = 300
_LIST_SECONDS = 0.2
_SAVE_SECONDS = 1.0
_STEP_SECONDS = 0.020
_WHOLE_SECONDS = 0.035  # where all ten thousand are asked for at once, which nobody does all the time
_START_SECONDS = 60.0
_AFTERWARDS = 0.4  # what a change brings on behind its answer: the audit, the queue runner's look

AGENT_COLUMNS = (
    "name",
    "full_name",
    "address",
    "resolved_server",
    "group",
    "role",
    "country",
    "language",
    "override",
    "password_set",
    "login_set",
)
FILTERS = ("q=9", "q=agent+number+77", "group=g7", "role=lead", "server=other", "password=missing", "start=9950")
PAGES = (
    "/channels?sort=resolved_server",
    "/channels?server=other",
    "/servers",
    "/servers/main/users?kind=agents",
    "/servers/main/users?kind=agents&sort=-address",
    "/servers/other/default",
    "/audit",
    "/audit?q=agent",
    "/messages",
    "/queue",
    "/",
)
API_LISTS = (
    "/agents",
    "/agents?sort=group&limit=500",
    "/channels",
    "/servers",
    "/servers/main/users?limit=500",
    "/audit",
)


def bounds(agents: int) -> Iterator[Bound]:
    """Yield what is measured of a relay with so many agents, while it runs."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    web = {"web": {"address": f"{LOOPBACK}:{port}", "public_url": url}}
    with relay_process(_directory(agents), web, starts=False) as relay:
        it = watched(relay)
        console = Console(relay, port)
        wait_until(console.answers, "the pages", _START_SECONDS)
        visitor = FormFiller(url)
        visitor.sign_in(ADMINISTRATOR, console.add_person(ADMINISTRATOR))
        api = ApiClient(url, console.add_token("program"))
        yield from _lists(it, visitor, api)
        yield from _savings(it, visitor)
        yield from _steps(it, visitor, api)


def _lists(it: Watched, visitor: FormFiller, api: ApiClient) -> Iterator[Bound]:
    pages = [f"/agents?sort={way}{column}" for column in AGENT_COLUMNS for way in ("", "-")]
    for path in (*pages, *(f"/agents?{chosen}" for chosen in FILTERS), *PAGES):
        yield Bound(f"the page {path}", _LIST_SECONDS, partial(it.seconds, partial(visitor.get, path)))
    for path in API_LISTS:
        yield Bound(f"the API's {path}", _LIST_SECONDS, partial(it.seconds, partial(api.get, path)))


def _savings(it: Watched, visitor: FormFiller) -> Iterator[Bound]:
    def look_after_saving() -> float:
        _save(visitor)
        return it.seconds(lambda: visitor.get("/agents?sort=full_name"))

    yield Bound("saving one", _SAVE_SECONDS, lambda: it.seconds(lambda: _save(visitor)))
    yield Bound("the first list after that", _LIST_SECONDS, look_after_saving)


def _steps(it: Watched, visitor: FormFiller, api: ApiClient) -> Iterator[Bound]:
    wholes: dict[str, Callable[[], Any]] = {
        "all agents": lambda: it.relay.ask("agent", "list"),
        "an export": lambda: visitor.get("/agents/-/export"),
    }
    doings: dict[str, Callable[[], Any]] = {
        "nothing": lambda: None,
        "saving": lambda: _save(visitor),
        "a list": lambda: visitor.get("/agents?sort=full_name"),
        "a list by what is set": lambda: visitor.get("/agents?sort=password_set"),
        "a search": lambda: visitor.get("/agents?q=number+9"),
        "users": lambda: api.get("/servers/main/users?limit=500"),
    }
    for what, do in {**doings, **wholes}.items():
        most = _WHOLE_SECONDS if what in wholes else _STEP_SECONDS
        yield Bound(f"the longest step of {what}", most, partial(it.longest_step, do, _AFTERWARDS))


def _directory(agents: int) -> dict[str, Any]:
    def agent(number: int) -> dict[str, Any]:
        return {
            "address": f"agent{number:05}@main.example",
            "full_name": f"Agent Number {number}",
            "group": f"g{number % 50}",
            "role": ("agent", "lead")[number % 9 == 0],
            "country": ("NL", "DE", "FR")[number % 3],
            **({"override": True} if number % 2 else {}),
            **({"server": "other"} if number % 5 == 0 else {}),
        }

    def channel(number: int) -> dict[str, Any]:
        return {"address": f"channel{number:03}@main.example", **({"server": "other"} if number % 2 else {})}

    return {
        "default_server": "main",
        "servers": {"main": open_server(free_port()), "other": open_server(free_port())},
        "channels": {f"channel{number:03}": channel(number) for number in range(CHANNELS)},
        "agents": {f"agent{number:05}": agent(number) for number in range(agents)},
    }


def _save(visitor: FormFiller) -> None:
    assert "is saved" in visitor.save("/agents/agent00007", country=f"C{time.monotonic_ns()}")
