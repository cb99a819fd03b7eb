"""Pages behind a proxy of another machine: bad logins count for who asks, not for the proxy that all come through."""

from collections.abc import Iterator

import pytest

from tests.peers.canaries import WRONG, canary
from tests.peers.console import ADMINISTRATOR, VIEWER, Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.visitor import Page, Visitor

LIMIT = 2
GUESSER, OTHER, SPOOFED = "203.0.113.9", "203.0.113.10", "198.51.100.1"


@pytest.fixture(scope="module")
def console(upstream: Recorder) -> Iterator[Console]:
    settings = {"limits": {"login_failures": LIMIT}, "web": {"proxy_networks": ["127.0.0.0/8", "10.0.0.5/32"]}}
    with console_process(one_channel(open_server(upstream.port)), settings) as running:
        yield running


def sign_in(console: Console, name: str, password: str, forwarded: str) -> Page:
    visitor, fields = Visitor(console.url), {"name": name, "password": password}
    return visitor.post("/sign-in", fields, Origin=console.url, X_Forwarded_For=forwarded)


def test_who_guesses_shuts_out_nobody_else(console: Console) -> None:
    answers = [sign_in(console, f"nobody{number}", WRONG, GUESSER).status for number in range(LIMIT + 1)]
    assert answers == [403] * LIMIT + [429], "whatever the name"
    assert sign_in(console, ADMINISTRATOR, canary(ADMINISTRATOR), GUESSER).status == 429
    assert sign_in(console, ADMINISTRATOR, canary(ADMINISTRATOR), OTHER).status == 303
    assert f'"peer": "{GUESSER}"' in console.relay.log


def test_what_a_client_says_of_itself_is_not_believed(console: Console) -> None:
    """The proxy writes its own client behind that; a second proxy of ours writes the first one behind that."""
    assert sign_in(console, VIEWER, canary(VIEWER), f"{SPOOFED}, {GUESSER}").status == 429
    assert sign_in(console, VIEWER, canary(VIEWER), f"127.0.0.1, {GUESSER}, 10.0.0.5").status == 429
    assert sign_in(console, VIEWER, canary(VIEWER), f"{GUESSER}, {OTHER}").status == 303
