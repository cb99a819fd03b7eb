"""What we write on a message's way is well-formed whatever a client called itself, and loops end."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import Address
from relay.mail.content import ContentRefused
from relay.mail.envelope import Recipient
from relay.mail.header import Header
from relay.mail.trace import check_loop, format_date, message_id, new_id, received_field
from tests.unit.mail.mail_kit import ARRIVAL

BOB = Recipient(Address.parse("bob@customer.example"))


def test_the_received_field() -> None:
    assert received_field(ARRIVAL, (BOB,)) == (
        b"Received: from client.example ([192.0.2.7])\r\n"
        b"\tby relay.example with ESMTP id 0123456789abcdefghijklmn\r\n"
        b"\tfor <bob@customer.example>;\r\n"
        b"\tMon, 24 Nov 2025 09:05:07 +0000\r\n"
    )


def test_for_stands_only_with_one_recipient() -> None:
    assert b"for" not in received_field(ARRIVAL, (BOB, BOB))
    assert b"for" not in received_field(ARRIVAL, ())
    assert received_field(ARRIVAL, (Recipient(Address.parse("jürgen@x.example")),)).isascii()


@pytest.mark.parametrize(
    ("peer", "shown"), [("2001:db8::1", b"([IPv6:2001:db8::1])"), ("unix", b"(unix)"), ("", b"(unknown)")]
)
def test_where_a_connection_came_from(peer: str, shown: bytes) -> None:
    assert shown in received_field(ARRIVAL._replace(peer=peer), (BOB,))


def test_the_login_is_nobody_elses_business() -> None:
    assert b"jane" not in received_field(ARRIVAL._replace(protocol="ESMTPSA", login="jane"), (BOB,))


@given(helo=st.text(max_size=400))
def test_no_helo_name_breaks_the_received_field(helo: str) -> None:
    """Whatever a client calls itself, Received is one field in ASCII with our own words in their places."""
    raw = received_field(ARRIVAL._replace(helo=helo), (BOB,))
    (item,) = Header.parse(raw).fields
    assert item.text.startswith("from ")
    assert item.text.count("\tby relay.example with ESMTP id ") == 1
    assert item.text.count("(") == item.text.count(")") == 1
    assert max(map(len, raw.split(b"\r\n"))) < 998
    check_loop(Header.parse(raw * 2), "relay.example")


@given(moment=st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001
def test_dates_are_read_back(moment: datetime) -> None:
    """A date is read back by the standard library, to the second."""
    aware = moment.replace(tzinfo=UTC, microsecond=0)
    assert parsedate_to_datetime(format_date(aware)) == aware


def test_ids_sort_by_time_and_differ() -> None:
    now = datetime(2025, 11, 24, tzinfo=UTC)
    ids = [new_id(now + timedelta(milliseconds=at)) for at in range(50)]
    assert ids == sorted(ids)
    assert len({new_id(now) for _ in range(50)}) == 50
    assert all(len(one) == 24 and one.isalnum() and one == one.lower() for one in ids)


def test_the_message_id_is_in_the_domain_of_its_address() -> None:
    assert message_id("abc", Address.parse("jane@Büro.example")) == "<abc@xn--bro-hoa.example>"


@pytest.mark.parametrize(
    ("block", "is_loop"),
    [
        (b"Received: by a.example; x\r\n" * 50, False),
        (b"Received: by a.example; x\r\n" * 51, True),
        (b"Received: from b\r\n\tby relay.example with ESMTP\r\n" * 2, False),
        (b"Received: from b\r\n\tby RELAY.example with ESMTP\r\n" * 3, True),
        (b"Received: by relay.example;\r\n x\r\n" * 3, True),
        (b"Received: from relay.example by a.relay.example.com\r\n" * 3, False),
        (b"X-Received: by relay.example\r\n" * 60, False),
        (b"Received: \r\n" * 3, False),
    ],
)
def test_what_is_a_loop(block: bytes, *, is_loop: bool) -> None:
    if not is_loop:
        check_loop(Header.parse(block), "relay.example")
        return
    with pytest.raises(ContentRefused, match=r"554 5\.4\.6 mail loop"):
        check_loop(Header.parse(block), "relay.example")
