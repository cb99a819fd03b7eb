"""Header rules set and remove what they may, and nothing else."""

import pytest

from relay.mail.change import Change
from relay.mail.header import Header
from relay.mail.script import FORBIDDEN_FIELDS, apply_script, is_forbidden, valid_field_name, valid_field_value

HEADER = Header.parse(b"X-A: 1\r\nSubject: s\r\nx-a: 2\r\nX-Originating-IP: 192.0.2.1\r\n")


def test_fields_are_set_in_their_place_and_removed() -> None:
    header, changes = apply_script(HEADER, {"X-A": "3", "Organization": "Acme Jets"}, ["x-originating-ip", "X-None"])
    assert bytes(header) == b"X-A: 3\r\nSubject: s\r\nOrganization: Acme Jets\r\n"
    assert changes == (
        Change("X-Originating-IP", "192.0.2.1", ""),
        Change("X-A", "1, 2", "3"),
        Change("Organization", "", "Acme Jets"),
    )


def test_a_rule_that_changes_nothing_is_no_change() -> None:
    assert apply_script(HEADER, {"Subject": "s"}, []) == (HEADER, ())
    assert apply_script(HEADER, {}, []) == (HEADER, ())


def test_a_field_both_removed_and_set_is_set() -> None:
    header, _ = apply_script(HEADER, {"X-A": "3"}, ["X-A"])
    assert [item.raw for item in header.get_all("x-a")] == [b"X-A: 3\r\n"]


def test_text_that_is_not_ascii_is_encoded() -> None:
    header, _ = apply_script(Header(), {"Organization": "Jürgens Jets"}, [])
    assert bytes(header) == b"Organization: =?utf-8?b?SsO8cmdlbnMgSmV0cw==?=\r\n"


@pytest.mark.parametrize(
    "name",
    [
        *("From", "sender", "REPLY-TO", "To", "Cc", "Bcc", "Date", "Message-ID", "Received", "Return-Path"),
        *("MIME-Version", "Content-Type", "content-transfer-encoding", "DKIM-Signature"),
    ],
)
def test_what_no_script_may_touch(name: str) -> None:
    assert is_forbidden(name)
    with pytest.raises(ValueError, match="cannot change"):
        apply_script(HEADER, {name: "x"}, [])
    with pytest.raises(ValueError, match="cannot change"):
        apply_script(HEADER, {}, [name])


def test_other_fields_may_be_touched() -> None:
    assert not any(map(is_forbidden, ["Subject", "X-From", "Organization", "List-Unsubscribe", "Resent-From"]))
    assert all(name == name.lower() for name in FORBIDDEN_FIELDS)


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X-Ä", "X\r\n", "X" * 77])
def test_what_is_no_field_name(name: str) -> None:
    assert not valid_field_name(name)
    with pytest.raises(ValueError, match="cannot change"):
        apply_script(HEADER, {name: "x"}, [])


@pytest.mark.parametrize(
    "value", ["", " ", "a\r\nX-Evil: 1", "a\nb", "a\0", "a\tb", "\x85", "\u2028", "\udcff", "x" * 901, "é" * 10_001]
)
def test_what_is_no_field_value(value: str) -> None:
    assert not valid_field_value(value)
    with pytest.raises(ValueError, match="cannot hold"):
        apply_script(HEADER, {"X-A": value}, [])


@pytest.mark.parametrize("value", ["a", "x" * 900, "é" * 10_000, "a  b", "=?utf-8?q?a?="])
def test_what_is_a_field_value(value: str) -> None:
    assert valid_field_name("X-A")
    assert valid_field_value(value)
    header, _ = apply_script(Header(), {"X-A": value}, [])
    assert max(map(len, bytes(header).split(b"\r\n"))) <= 998
