"""Authentication-Results as receivers write it, and as somebody would who wants to be believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.authentication_results import AuthenticationResults, ResultsFault, receivers_verdicts
from relay.mail.mime import MimePart

GMAIL = (
    "mx.google.com; dkim=pass header.i=@acmejets.example header.s=20230601 header.b=Ab/+=; "
    "spf=pass (google.com: domain of support@acmejets.example designates 192.0.2.1 as permitted sender) "
    "smtp.mailfrom=support@acmejets.example; dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=acmejets.example"
)
MICROSOFT = (
    "spf=fail (sender IP is 192.0.2.1) smtp.mailfrom=acmejets.example; dkim=none (message not signed) "
    "header.d=none;dmarc=fail action=oreject header.from=acmejets.example;compauth=fail reason=000"
)


def results(value: str) -> list[tuple[str, str]]:
    return [(verdict.method, verdict.result) for verdict in AuthenticationResults.parse(value).verdicts]


@pytest.mark.parametrize(
    ("value", "authserv_id", "verdicts"),
    [
        (GMAIL, "mx.google.com", [("dkim", "pass"), ("spf", "pass"), ("dmarc", "pass")]),
        (MICROSOFT, "", [("spf", "fail"), ("dkim", "none"), ("dmarc", "fail"), ("compauth", "fail")]),
        ("example.org 1; none", "example.org", []),
        ("example.org", "example.org", []),
        ('"mx; example" (a; comment (in a comment)) ; SPF = Pass', "mx; example", [("spf", "pass")]),
        (
            'mx.test; dkim/1 = fail reason="bad; signature" header.d=a.example',
            "mx.test",
            [("dkim", "fail")],
        ),
        ("mx.test; spf=softfail smtp.mailfrom=prvs=1=a@b.example;", "mx.test", [("spf", "softfail")]),
    ],
)
def test_what_receivers_write(value: str, authserv_id: str, verdicts: list[tuple[str, str]]) -> None:
    assert AuthenticationResults.parse(value).authserv_id == authserv_id
    assert results(value) == verdicts


@pytest.mark.parametrize(
    "value",
    [
        "mx.test; spf pass",
        "mx.test; spf=pass (never closed",
        'mx.test; spf="pass',
        "mx.test; =pass",
        "two words here; spf=pass",
        "mx.test; spf=pass;\0 dkim=pass",
    ],
)
def test_what_cannot_be_read_is_nobodys_word(value: str) -> None:
    with pytest.raises(ResultsFault):
        AuthenticationResults.parse(value)


def test_properties_are_found_by_the_first_name_that_is_there() -> None:
    dkim, spf, _ = AuthenticationResults.parse(GMAIL).verdicts
    assert dkim.get("header.d", "header.i") == "@acmejets.example"
    assert spf.get("smtp.mailfrom") == "support@acmejets.example"
    assert spf.get("header.from") == ""


def header(*lines: str) -> MimePart:
    return MimePart.parse("\r\n".join(lines).encode() + b"\r\n\r\n")


def test_only_the_topmost_receivers_own_word_counts() -> None:
    message = header(
        "Received: from inside by mx.test",
        "Authentication-Results: mx.test; spf=pass",
        "Authentication-Results: other.test; dmarc=pass",
        "Authentication-Results: MX.test;",
        "\tdkim=fail",
        "X-Relay-Test: 4711",
        "Authentication-Results: mx.test; dmarc=pass",
        "From: support@acmejets.example",
    )
    found = receivers_verdicts(message.fields, "x-relay-test")
    assert found is not None
    assert found[0] == "mx.test"
    assert [(verdict.method, verdict.result) for verdict in found[1]] == [("spf", "pass"), ("dkim", "fail")]


def test_what_stood_in_the_message_before_it_was_sent_counts_for_nothing() -> None:
    message = header("X-Relay-Test: 4711", "Authentication-Results: mx.test; dmarc=pass")
    assert receivers_verdicts(message.fields, "x-relay-test") is None


def test_a_topmost_field_that_cannot_be_read_does_not_let_a_forged_one_speak() -> None:
    message = header(
        "Authentication-Results: mx.test; spf=fail (open",
        "Authentication-Results: mx.test; spf=pass",
        "X-Relay-Test: 4711",
    )
    assert receivers_verdicts(message.fields, "x-relay-test") is None


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(value: str) -> None:
    try:
        found = AuthenticationResults.parse(value)
    except ResultsFault:
        return
    assert all(verdict.method and verdict.result == verdict.result.lower() for verdict in found.verdicts)


@given(st.lists(st.sampled_from(["(", ")", '"', ";", "=", "\\", "a", " ", "spf=pass"]), max_size=60))
def test_any_punctuation_is_read_or_refused(pieces: list[str]) -> None:
    try:
        AuthenticationResults.parse("".join(pieces))
    except ResultsFault:
        return
