"""`route` explains what a message of a sender would become, and says no in the words that a client would hear."""

from typing import Any

import pytest

from relay.control.refused import Refused
from tests.unit.control.control_kit import AdminOperations

KEYS = {"profile", "server", "account", "identity", "override", "from", "reply_to", "reason"}


async def _route(operations: AdminOperations, sender: str, **params: str) -> dict[str, Any]:
    result: dict[str, Any] = await operations.run("route", {"sender": sender, **params})
    return result


async def test_a_server_account_rewrites_and_answers_go_to_the_alias(operations: AdminOperations) -> None:
    route = await _route(operations, "help@acmejets.example", from_header="Help Desk <help@acmejets.example>")
    assert route.keys() >= KEYS
    assert (route["profile"], route["server"], route["account"]) == (
        "support",
        "acmejets",
        "acmejets/mailer@acmejets.example",
    )
    assert route["from"] == "Help Desk <mailer@acmejets.example>"
    assert route["reply_to"] == "help@acmejets.example"
    assert "is an alias of channel 'support'" in route["reason"]


async def test_an_override_keeps_its_address_and_its_tag(operations: AdminOperations) -> None:
    route = await _route(operations, "sales+4711@acmejets.example")
    assert (route["identity"], route["override"], route["reply_to"]) == ("sales+4711@acmejets.example", True, None)
    assert route["reason"].endswith("no password is set for it")
    await operations.run("channel.password", {"name": "sales", "password": "pw"})
    assert "password" not in (await _route(operations, "sales@acmejets.example"))["reason"]


async def test_the_null_sender_is_routed_by_from(operations: AdminOperations) -> None:
    assert (await _route(operations, "<>", from_header="sales@acmejets.example"))["profile"] == "sales"
    with pytest.raises(Refused, match="give one with --from"):
        await _route(operations, "")


@pytest.mark.parametrize(
    ("sender", "params", "sentence"),
    [
        ("nobody@acmejets.example", {}, "no channel or agent sends from this address"),
        ("support@acmejets.example", {"login": "jane"}, "jane may not send as this address"),
        ("jane@acmejets.example", {"login": "jan"}, "there is no login 'jan'; did you mean 'jane'"),
        (
            "jane@acmejets.example",
            {"login": "jane", "from_header": "support@acmejets.example"},
            "does not match the sender",
        ),
        ("no address", {}, "has no domain"),
    ],
)
async def test_what_would_be_refused_is_refused_here(
    operations: AdminOperations, sender: str, params: dict[str, str], sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        await _route(operations, sender, **params)


async def test_a_line_end_in_from_makes_no_second_field(operations: AdminOperations) -> None:
    route = await _route(
        operations, "jane@acmejets.example", from_header="J\r\nBcc: x@y.example <jane@acmejets.example>"
    )
    assert "\n" not in route["from"]
    assert route["from"].endswith("jane@acmejets.example>") or route["from"] == "jane@acmejets.example"


async def test_a_bounce_is_explained(operations: AdminOperations) -> None:
    params = {"from_header": "MAILER-DAEMON@mail.acmejets.example (Mail Delivery System)"}
    own = await _route(operations, "<>", to="sales@acmejets.example", **params)
    assert (own["profile"], own["from"]) == ("sales", "Mail Delivery System <sales@acmejets.example>")
    assert own["reason"].startswith("the bounce is for sales@acmejets.example, which is the address of channel 'sales'")
    other = await _route(operations, "<>", to="else@customer.example", **params)
    assert (other["profile"], other["identity"]) == (None, "mailer@acmejets.example")
    assert other["reason"].startswith("it is a bounce for nobody of ours")
