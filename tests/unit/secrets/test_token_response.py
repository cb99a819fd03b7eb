"""What a token endpoint says, and the record that is kept of it."""

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.secrets.oauth.record import new_record, parse_token_record
from relay.secrets.oauth.token_response import grant_of
from relay.secrets.sources import SecretUnavailable
from tests.unit.secrets.oauth_kit import grant

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one, max_size=2))


def id_token(claims: Any) -> str:
    return f"e30.{urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.x"


@given(st.dictionaries(st.sampled_from(["access_token", "refresh_token", "expires_in", "id_token", "scope"]), JSON))
def test_any_answer_is_a_grant_or_a_value_error(said: dict[str, Any]) -> None:
    try:
        found = grant_of(said)
    except ValueError:
        return
    assert found.access_token.isprintable()
    assert found.seconds > 0


@given(JSON)
def test_any_id_token_names_somebody_or_nobody(claims: Any) -> None:
    assert grant_of({"access_token": "a", "id_token": id_token(claims)}).who == ""


@pytest.mark.parametrize(
    ("claims", "who"),
    [
        ({"preferred_username": "jane@a.example", "email": "j@b.example"}, "jane@a.example"),
        ({"email": "j@b.example"}, "j@b.example"),
        ({"email": "a\x1b[31m"}, "a [31m"),
        ({"email": 5}, ""),
    ],
)
def test_whom_an_id_token_names(claims: Any, who: str) -> None:
    assert grant_of({"access_token": "a", "id_token": id_token(claims)}).who == who


@pytest.mark.parametrize(
    ("value", "seconds"), [(60, 60), ("3599", 3599), (None, 3600), (0, 3600), ("soon", 3600), (10**12, 366 * 86400)]
)
def test_how_long_a_token_is_good(value: Any, seconds: int) -> None:
    assert grant_of({"access_token": "a", "expires_in": value}).seconds == seconds


def test_a_token_of_another_type_is_none() -> None:
    with pytest.raises(ValueError, match="bearer"):
        grant_of({"access_token": "a", "token_type": "mac"})


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_a_token_is_renewed_ahead_and_while_it_is_good(seconds: int, chance: float) -> None:
    record = new_record(grant(0, seconds), "app", NOW)
    moment = record.renewal_at(chance)
    assert NOW < moment <= NOW + timedelta(seconds=seconds * 0.8)
    assert record.is_usable(moment - timedelta(microseconds=1))
    assert not record.is_usable(record.expires)


def test_an_hours_token_is_renewed_after_three_quarters_of_it() -> None:
    record = new_record(grant(), "app", NOW)
    assert [record.renewal_at(chance) for chance in (0, 1)] == [
        NOW + timedelta(minutes=48),
        NOW + timedelta(minutes=45),
    ]


def test_a_clock_that_was_set_back_makes_a_token_old() -> None:
    record = new_record(grant(), "app", NOW)
    assert record.is_usable(NOW - timedelta(minutes=2))
    assert not record.is_usable(NOW - timedelta(hours=2))


def test_a_record_shows_no_token_and_survives_the_vault() -> None:
    record = new_record(grant(5), "app", NOW)
    assert "access-5" not in repr(record)
    assert "refresh-5" not in repr(record)
    assert parse_token_record(record.as_text, "oauth/profile/x") == record


def test_a_record_of_another_form_says_what_to_do() -> None:
    with pytest.raises(SecretUnavailable, match=r"oauth/profile/x .* authorize it anew"):
        parse_token_record('{"version": 2}', "oauth/profile/x")
