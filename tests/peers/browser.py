"""A real Chromium, driven as a person uses it. It speaks to this machine alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.peers.packages import program

# Headless Chromium as root, without its own errands to the network.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
WIDE = (1280, 860)
NARROW = (360, 740)
_PATIENCE = 30_000  # milliseconds
_SERIOUS = ("serious", "critical")

# What is expected of a page may come by itself, after looks of a second, on a machine that is busy.
expect.set_options(timeout=_PATIENCE)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser. Ask for needs("chromium")."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(
    browser: Browser, base_url: str, size: tuple[int, int] = WIDE, *, scripts: bool = True
) -> Iterator[BrowserContext]:
    """A window of its own: no cookie of another one. What a page's script breaks at is an AssertionError."""
    context = browser.new_context(
        base_url=base_url, viewport={"width": size[0], "height": size[1]}, java_script_enabled=scripts
    )
    context.set_default_timeout(_PATIENCE)
    broken: list[str] = []
    context.on("weberror", lambda error: broken.append(str(error.error)))
    context.on("console", lambda message: broken.append(message.text) if _is_ours(message.type, message.text) else None)
    try:
        yield context
    finally:
        context.close()
    assert not broken, f"a page's script or policy complains: {broken}"


def serious_faults(page: Page) -> Sequence[str]:
    """What axe-core finds on a page that keeps people out."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {node['html'][:160]}"
        for one in found
        if one["impact"] in _SERIOUS
        for node in one["nodes"]
    ]


def loaded(page: Page) -> Page:
    """Return the page when its script has run: a click that led here returns before that."""
    page.wait_for_load_state()
    return page


def overflows(page: Page) -> bool:
    """Whether a page has to be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def cut_off(page: Page) -> bool:
    """Whether a table has to be scrolled sideways, so that a column of it is out of sight."""
    tables = "[...document.querySelectorAll('.table')]"
    return bool(page.evaluate(f"{tables}.some(one => one.scrollWidth > one.clientWidth + 1)"))


def _is_ours(kind: str, text: str) -> bool:
    """Whether a line of the console is a fault; an answer like 403 that a test asks for is none."""
    return kind == "error" and "Failed to load resource" not in text
