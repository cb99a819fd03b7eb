"""What a stranger sends to the pages is answered or hung up on, and who is known has the answer that is meant for it.

How long a step of the event loop each of these makes is measured by `make bench LOADS=bounds`.
"""

from collections.abc import Iterator, Mapping

import pytest

from tests.hostile.web_requests import BODIES, HEADS, KNOWN, PATIENCE, Hostile, Target, head, target_of, target_relay

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with target_relay() as (relay, port):
        relay.start()
        yield target_of(relay, port)


def broken(target: Target, hostile: Mapping[str, Hostile]) -> dict[str, int]:
    """Return what had an answer of a fault of ours, and which."""
    found = {name: target.ask(make(target)) for name, make in hostile.items()}
    return {name: status for name, status in found.items() if status >= 500}


def goes_on(target: Target) -> bool:
    return target.ask(head(target, "GET", "/healthz"), PATIENCE) == 200


def test_no_head_breaks_anything(target: Target) -> None:
    assert not broken(target, HEADS)
    assert goes_on(target)


def test_no_body_of_a_stranger_breaks_anything(target: Target) -> None:
    assert not broken(target, BODIES)
    assert goes_on(target)


def test_who_is_known_has_the_answer_that_is_meant(target: Target) -> None:
    """Or is hung up on, where it still sends."""
    wrong = {}
    for name, (status, make) in KNOWN.items():
        found = target.ask(make(target), PATIENCE)
        if found not in {status, 0}:
            wrong[name] = found
    assert not wrong
    assert goes_on(target)
