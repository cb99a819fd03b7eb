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


class TooMuch(Exception):
    """A body holds more than it may. The message is a sentence."""


def check_amount(body: bytes, *, is_table: bool) -> None:
    """Raise TooMuch for a body with too many keys or items; what is no JSON is left to who reads it.

    A table stands in one text, in which there may be as many commas as there is room.
    """
    if not is_table and body.count(b",") > _MOST_COMMAS:
        raise TooMuch(f"a body has at most {_MOST_COMMAS:,} commas")
    try:
        _check_items(json.loads(body, object_pairs_hook=_checked))
    except (ValueError, RecursionError):
        return


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
