"""How long a server wants to be left alone, in its own words."""

import pytest

from relay.upstream.outcome import named_window


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Too many messages, try again in 10 minutes", 600),
        ("Rate limit exceeded. Retry after 3600 seconds", 3600),
        ("Please wait 90s before you send more", 90),
        ("Retry-After: 120 s", 120),
        ("Your account is blocked for 24 hours because of its limit of 500 messages a day", 86400),
        ("Mailbox locked for 30 min", 1800),
        ("try again in about 1 day", 86400),
        ("More than 500 messages in 24 hours", None),
        ("Limit for 1 hour exceeded, try again later", None),
        ("try again in 0 seconds", None),
        ("try again in 5 moments", None),
        ("Daily user sending limit exceeded", None),
        ("", None),
    ],
)
def test_a_time_behind_words_of_waiting_is_a_window(text: str, seconds: float | None) -> None:
    assert named_window(text) == seconds


@pytest.mark.parametrize("text", ["try again ", "wait for at least ", "retry 9", "9"])
def test_no_text_of_a_server_takes_long_to_read(text: str) -> None:
    """A pattern that goes back at each word would take hours for a mebibyte, and be ended."""
    named_window("retry " + text * (2**20 // len(text)))
