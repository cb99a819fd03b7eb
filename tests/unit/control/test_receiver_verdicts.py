"""What a receiver saw, judged for people."""

import pytest

from relay.control.tests.round_trip import seen_by_receiver
from relay.mail.address import Address
from relay.mail.parts import Part

SENDER = Address.parse("support@acmejets.example")
RESULTS = "Authentication-Results: mx.test; "


def judged(results: str, sender: str = "support@acmejets.example") -> dict[str, tuple[bool, str]]:
    lines = [*([RESULTS + results] if results else []), "X-Relay-Test: 1", f"From: {sender}", "", ""]
    message = Part.parse("\r\n".join(lines).encode())
    return {name: (is_good, words) for name, is_good, words in seen_by_receiver(message.fields, "x-relay-test", SENDER)}


@pytest.mark.parametrize(
    ("results", "good"),
    [
        ("spf=pass; dkim=pass; dmarc=pass", {"spf": True, "dkim": True, "dmarc": True}),
        # One that is aligned is enough.
        ("spf=softfail; dkim=pass; dmarc=pass", {"spf": True, "dkim": True, "dmarc": True}),
        ("spf=pass; dkim=none; dmarc=fail", {"spf": True, "dkim": False, "dmarc": False}),
        ("spf=fail; dkim=fail", {"spf": False, "dkim": False, "dmarc": True}),
        ("dkim=fail; dkim=pass", {"spf": True, "dkim": True, "dmarc": True}),
        ("dmarc=none", {"spf": True, "dkim": True, "dmarc": False}),
    ],
)
def test_each_method_is_good_or_not(results: str, good: dict[str, bool]) -> None:
    found = judged(results)
    assert {name: found[name][0] for name in good} == good


def test_it_says_about_whom_and_who_says_so() -> None:
    found = judged("dkim=pass header.d=a.example; dkim=fail header.d=b.example")
    assert found["dkim"][1] == "pass for a.example, fail for b.example (says mx.test)"
    assert found["spf"][1] == "mx.test does not say"


def test_a_receiver_that_says_nothing_is_no_fault() -> None:
    found = judged("")
    assert list(found) == ["auth", "from"]
    assert found["auth"][0]


@pytest.mark.parametrize(
    ("sender", "is_good", "words"),
    [
        ("Support <SUPPORT@acmejets.example>", True, "SUPPORT@acmejets.example, as it was sent"),
        ("mailer@acmejets.example", False, "mailer@acmejets.example arrived and support@acmejets.example was sent"),
        ("a@b.example, c@d.example", False, "the From that arrived cannot be read: it names several mailboxes"),
    ],
)
def test_the_from_that_arrived(sender: str, is_good: bool, words: str) -> None:
    found = judged("", sender)["from"]
    assert found[0] is is_good
    assert words in found[1]
