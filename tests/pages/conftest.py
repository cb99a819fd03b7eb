"""For each file of tests one Chromium, and a relay with open pages before a recording upstream."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.pages.full_house import House, full_house
from tests.peers.api import ApiClient
from tests.peers.browser import NARROW, chromium, window
from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR, VIEWER, Console, console_process
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import one_channel, open_server
from tests.peers.visitor import Visitor, signed_in


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ask for needs("chromium"). It runs an event loop of its own meanwhile, so no async test may stand beside it."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    """Where the relay of this file sends to."""
    with recorder_server() as server:
        yield server


@pytest.fixture(scope="module")
def console(upstream: Recorder) -> Iterator[Console]:
    """Server acmejets and channel support, which overrides; an administrator and a viewer."""
    with console_process(one_channel(open_server(upstream.port))) as running:
        yield running


@pytest.fixture(scope="module")
def api(console: Console) -> ApiClient:
    """A program of the administrator's; it is quicker than a command."""
    return ApiClient(console.url, console.add_token("tests"))


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """A relay that has one of everything. Whoever asks for it leaves it as it was."""
    with recorder_server() as server, full_house(server.port) as one:
        yield one


@pytest.fixture(scope="module")
def cookies() -> dict[str, str]:
    """The sessions of this file by name: one serves all its tests, so that few of them wait for a sign-in."""
    return {}


def _entered(console: Console, context: BrowserContext, cookies: dict[str, str], name: str) -> Page:
    """Return an empty page of somebody who is signed in; anew where a test has ended the session."""
    if not Visitor(console.url, cookies.get(name, "")).get("/sign-in").where:
        cookies[name] = signed_in(console, name, canary(name)).cookie
    context.add_cookies([{"name": "relay", "value": cookies[name], "url": console.url}])
    return context.new_page()


@pytest.fixture
def page(browser: Browser, console: Console, cookies: dict[str, str]) -> Iterator[Page]:
    """A wide window, with the administrator signed in."""
    with window(browser, console.url) as context:
        yield _entered(console, context, cookies, ADMINISTRATOR)


@pytest.fixture
def narrow_page(browser: Browser, console: Console, cookies: dict[str, str]) -> Iterator[Page]:
    """A window as wide as a phone, with the administrator signed in."""
    with window(browser, console.url, NARROW) as context:
        yield _entered(console, context, cookies, ADMINISTRATOR)


@pytest.fixture
def plain_page(browser: Browser, console: Console, cookies: dict[str, str]) -> Iterator[Page]:
    """A browser that runs no script, with the administrator signed in."""
    with window(browser, console.url, scripts=False) as context:
        yield _entered(console, context, cookies, ADMINISTRATOR)


@pytest.fixture
def viewer_page(browser: Browser, console: Console, cookies: dict[str, str]) -> Iterator[Page]:
    """A wide window, with the viewer signed in."""
    with window(browser, console.url) as context:
        yield _entered(console, context, cookies, VIEWER)
