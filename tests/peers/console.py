"""A relay whose pages are open, and an administrator who can sign in to them."""

import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import BrowserContext, Page

from relay.control.transport.client import ControlClient
from tests.peers.canaries import canary
from tests.peers.relay import Relay, relay_process
from tests.peers.system import LOOPBACK, free_port, wait_until

ADMINISTRATOR = "root"
VIEWER = "auditor"


class Console:
    """The pages of a relay."""

    def __init__(self, relay: Relay, port: int) -> None:
        self.relay = relay
        self.url = f"http://{LOOPBACK}:{port}"

    def answers(self) -> bool:
        """Whether the pages are open."""
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def add_person(self, name: str, role: str = "administrator") -> str:
        """Add somebody who may sign in, and return the password."""
        password = canary(name)
        self.run("admin.add", name=name, role=role, password=password)
        return password

    def add_token(self, name: str, role: str = "administrator") -> str:
        """Add a token of the API, and return it."""
        return str(self.run("token.add", name=name, role=role)["token"])

    def run(self, operation: str, **params: Any) -> Any:
        """Return the result of an operation, asked for as commands do, without the start of one. Raises Refused."""
        return ControlClient(self.relay.control_socket, self.relay.state_dir).run(operation, params)

    def sign_in(self, context: BrowserContext, name: str, password: str) -> Page:
        """Sign in as a person does, and return the page where that leads."""
        page = context.new_page()
        page.goto("/sign-in")
        page.get_by_label("Name or address").fill(name)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/sign-in" not in url)
        return page


@contextmanager
def console_process(
    directory: Mapping[str, Any], settings: Mapping[str, Any] | None = None, *, public_url: str = ""
) -> Iterator[Console]:
    """A running relay with open pages, an `ADMINISTRATOR` and a `VIEWER`; the password of each is `canary(NAME)`.

    `public_url`: how people would reach it, if not directly.
    """
    port = free_port()
    web = {"address": f"{LOOPBACK}:{port}", "public_url": public_url or f"http://{LOOPBACK}:{port}"}
    given = settings or {}
    with relay_process(directory, {**given, "web": {**web, **given.get("web", {})}}) as relay:
        console = Console(relay, port)
        wait_until(console.answers, "the pages")
        console.add_person(ADMINISTRATOR)
        console.add_person(VIEWER, "viewer")
        yield console
