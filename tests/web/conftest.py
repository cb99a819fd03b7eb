"""For each file of tests one Chromium, and a relay with open pages before a recording upstream."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.peers.browser import NARROW, chromium, window
from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR, VIEWER, Console, console_process
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import one_channel, open_server
from tests.web.full_house import House, full_house


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


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """A relay that has one of everything. Whoever asks for it leaves it as it was."""
    with recorder_server() as server, full_house(server.port) as one:
        yield one


@pytest.fixture
def page(browser: Browser, console: Console) -> Iterator[Page]:
    """A wide window, with the administrator signed in."""
    with window(browser, console.url) as context:
        yield console.sign_in(context, ADMINISTRATOR, canary(ADMINISTRATOR))


@pytest.fixture
def narrow_page(browser: Browser, console: Console) -> Iterator[Page]:
    """A window as wide as a phone, with the administrator signed in."""
    with window(browser, console.url, NARROW) as context:
        yield console.sign_in(context, ADMINISTRATOR, canary(ADMINISTRATOR))


@pytest.fixture
def plain_page(browser: Browser, console: Console) -> Iterator[Page]:
    """A browser that runs no script, with the administrator signed in."""
    with window(browser, console.url, scripts=False) as context:
        yield console.sign_in(context, ADMINISTRATOR, canary(ADMINISTRATOR))


@pytest.fixture
def viewer_page(browser: Browser, console: Console) -> Iterator[Page]:
    """A wide window, with the viewer signed in."""
    with window(browser, console.url) as context:
        yield console.sign_in(context, VIEWER, canary(VIEWER))
