"""Which profiles a client may send as, and what an address in From is to it."""

import tomllib

import pytest

from relay.directory.client import Client, ownership
from relay.directory.routing import Routing
from relay.directory.rules.validation import parse_directory
from relay.mail.identity import Ownership
from tests.unit.directory.directory_kit import HOUSE, address

HOUSE_DIRECTORY = parse_directory(tomllib.loads(HOUSE))


def client(*may_send_as: str) -> Client:
    return Client(name="127.0.0.1", peer="127.0.0.1", may_send_as=may_send_as, is_trusted=True)


@pytest.mark.parametrize(
    ("may_send_as", "allowed"),
    [
        ((), set()),
        (("*",), {"support", "sales", "news", "jane"}),
        (("support", "jane"), {"support", "jane"}),
        (("group:sales",), {"jane"}),
        (("group:",), set()),
        (("sales",), {"sales"}),
        (("group:sales", "news"), {"jane", "news"}),
        (("Support",), set()),
    ],
)
def test_whom_a_client_may_send_as(may_send_as: tuple[str, ...], allowed: set[str]) -> None:
    profiles = HOUSE_DIRECTORY.profiles()
    assert {profile.name for profile in profiles if client(*may_send_as).allows(profile)} == allowed


def test_only_a_star_is_anyone() -> None:
    assert client("a", "*").allows_anyone
    assert not client("group:*", "support").allows_anyone


@pytest.mark.parametrize(
    ("may_send_as", "own", "in_from", "expected"),
    [
        (("support",), "support", "support@acme.example", Ownership.SAME),
        (("support",), "support", "HELP+1@acme.example", Ownership.SAME),
        (("support",), "support", "x@support.acme.example", Ownership.SAME),
        (("support", "news"), "support", "news@acme.example", Ownership.ALLOWED),
        (("group:sales", "support"), "support", "jane.doe@acme.example", Ownership.ALLOWED),
        (("*",), "support", "news@acme.example", Ownership.ALLOWED),
        (("support",), "support", "news@acme.example", Ownership.FORBIDDEN),
        (("support",), "support", "boss@else.example", Ownership.FORBIDDEN),
        (("*",), "support", "boss@else.example", Ownership.NOBODY),
        (("*",), None, "boss@else.example", Ownership.NOBODY),
        (("*",), None, "news@acme.example", Ownership.ALLOWED),
        (("support",), None, "news@acme.example", Ownership.FORBIDDEN),
    ],
)
def test_what_an_address_in_from_is(
    may_send_as: tuple[str, ...], own: str | None, in_from: str, expected: Ownership
) -> None:
    profile = HOUSE_DIRECTORY.profile(own) if own else None
    assert ownership(Routing(HOUSE_DIRECTORY), client(*may_send_as), profile)(address(in_from)) is expected
