"""Header rules set and remove what they may, and nothing else."""

import pytest

from relay.mail.header import Change, Header, HeaderEdit, change_of
from relay.mail.outgoing import FORBIDDEN_FIELDS, apply_script, is_forbidden, valid_field_name, valid_field_value

HEADER = Header.parse(b"X-A: 1\r\nSubject: s\r\nx-a: 2\r\nX-Originating-IP: 192.0.2.1\r\n")


def applied(header: Header, set_headers: dict[str, str], removed: list[str]) -> tuple[Header, tuple[Change, ...]]:
    edit = HeaderEdit(header)
    apply_script(edit, (set_headers, removed))
    return edit.header, tuple(map(change_of, edit.done))


def test_fields_are_set_in_their_place_and_removed() -> None:
    header, changes = applied(HEADER, {"X-A": "3", "Organization": "Acme Jets"}, ["x-originating-ip", "X-None"])
    assert bytes(header) == b"X-A: 3\r\nSubject: s\r\nOrganization: Acme Jets\r\n"
    assert changes == (
        Change("X-Originating-IP", "192.0.2.1", ""),
        Change("X-A", "1, 2", "3"),
        Change("Organization", "", "Acme Jets"),
    )


def test_a_rule_that_changes_nothing_is_no_change() -> None:
    assert applied(HEADER, {"Subject": "s"}, []) == (HEADER, ())
    assert applied(HEADER, {}, []) == (HEADER, ())


def test_a_field_both_removed_and_set_is_set() -> None:
    header, _ = applied(HEADER, {"X-A": "3"}, ["X-A"])
    assert [item.raw for item in header.get_all("x-a")] == [b"X-A: 3\r\n"]


def test_a_field_both_removed_and_set_is_one_change_and_stands_at_the_end() -> None:
    header, changes = applied(HEADER, {"X-B": "4", "X-A": "3", "Subject": "s"}, ["Subject", "X-A"])
    assert bytes(header) == b"X-Originating-IP: 192.0.2.1\r\nX-B: 4\r\nX-A: 3\r\nSubject: s\r\n"
    assert changes == (Change("X-A", "1, 2", "3"), Change("X-B", "", "4"))


def test_text_that_is_not_ascii_is_encoded() -> None:
    header, _ = applied(Header(), {"Organization": "Jürgens Jets"}, [])
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
        applied(HEADER, {name: "x"}, [])
    with pytest.raises(ValueError, match="cannot change"):
        applied(HEADER, {}, [name])


def test_other_fields_may_be_touched() -> None:
    assert not any(map(is_forbidden, ["Subject", "X-From", "Organization", "List-Unsubscribe", "Resent-From"]))
    assert all(name == name.lower() for name in FORBIDDEN_FIELDS)


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X-Ä", "X\r\n", "X" * 77])
def test_what_is_no_field_name(name: str) -> None:
    assert not valid_field_name(name)
    with pytest.raises(ValueError, match="cannot change"):
        applied(HEADER, {name: "x"}, [])


@pytest.mark.parametrize(
    "value", ["", " ", "a\r\nX-Evil: 1", "a\nb", "a\0", "a\tb", "\x85", "\u2028", "\udcff", "x" * 901, "é" * 10_001]
)
def test_what_is_no_field_value(value: str) -> None:
    assert not valid_field_value(value)
    with pytest.raises(ValueError, match="cannot hold"):
        applied(HEADER, {"X-A": value}, [])


@pytest.mark.parametrize("value", ["a", "x" * 900, "é" * 10_000, "a  b", "=?utf-8?q?a?="])
def test_what_is_a_field_value(value: str) -> None:
    assert valid_field_name("X-A")
    assert valid_field_value(value)
    header, _ = applied(Header(), {"X-A": value}, [])
    assert max(map(len, bytes(header).split(b"\r\n"))) <= 998
