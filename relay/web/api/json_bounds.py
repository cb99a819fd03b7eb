"""How much a JSON body may hold: so many keys in an object, so many items in a list.

SECURITY: whatever is unknown or wrong has a fault made of it, which takes a hundred times as long as to read it. So it
is counted first, in a thread.
"""

import json
from collections.abc import Mapping
from typing import Any

MOST_KEYS = 200
MOST_ITEMS = 1000
_MOST_COMMAS = 20_000
_MOST_ESCAPES = 200_000


class TooMuch(Exception):
    """A body holds more than it may. The message is a sentence."""


class NotUtf8(Exception):
    """A body is in another encoding than RFC 8259 section 8.1 has it."""


def check_amount(body: bytes) -> None:
    """Raise TooMuch for a body with too many keys, items or escapes, NotUtf8 for one in another encoding.

    What is no JSON is left to who reads it. A table stands in one text, in which there may be as many commas as there
    is room. Python's reader takes UTF-16 and halves of surrogate pairs, too: the latter a hundred times as slowly. And
    while it reads, no other thread does anything.
    """
    if b"\0" in body[:4] or not _is_utf8(body):
        raise NotUtf8
    if body.count(b"\\") > _MOST_ESCAPES:
        raise TooMuch(f"a body has at most {_MOST_ESCAPES:,} backslashes")
    _check_commas(body)
    try:
        _check_items(json.loads(body, object_pairs_hook=_checked))
    except (ValueError, RecursionError):
        return


def _check_commas(body: bytes) -> None:
    """Look at the commas outside of strings."""
    commas, strings, start = 0, 0, 0
    while (quote := body.find(b'"', start)) >= 0:
        commas += body.count(b",", start, quote)
        strings += 1
        if commas > _MOST_COMMAS or strings > 2 * _MOST_COMMAS:
            break
        start = _end_of_string(body, quote + 1)
    else:
        commas += body.count(b",", start)
    if commas > _MOST_COMMAS or strings > 2 * _MOST_COMMAS:
        raise TooMuch(f"a body has at most {_MOST_COMMAS:,} commas outside of its texts")


def _end_of_string(body: bytes, start: int) -> int:
    """Return where a string is over that has begun before `start`."""
    while (quote := body.find(b'"', start)) >= 0:
        text = body[start:quote]
        if (len(text) - len(text.rstrip(b"\\"))) % 2 == 0:
            return quote + 1
        start = quote + 1
    return len(body)


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _checked(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    if len(pairs) > MOST_KEYS:
        raise TooMuch(f"an object in a body has at most {MOST_KEYS} keys")
    for _, value in pairs:
        _check_items(value)
    return {}  # its keys are counted


def _check_items(value: Any) -> None:
    if isinstance(value, list):
        if len(value) > MOST_ITEMS:
            raise TooMuch(f"a list in a body has at most {MOST_ITEMS:,} items")
        for item in value:
            _check_items(item)
