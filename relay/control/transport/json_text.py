"""Long lists as JSON text, made a part at a time.

Python's encoder is one call, in which no other thread runs: of ten thousand records at once, for 40 ms. Between two
parts the event loop has its turn, where this is called in a thread.
"""

import json
from collections.abc import Sequence
from typing import Any

_AT_ONCE = 500


def json_text(value: Any) -> str:
    """Return a value as JSON, as `json.dumps` writes it for people who read other alphabets too."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return _text(value)
    parts = (_text(value[start : start + _AT_ONCE])[1:-1] for start in range(0, len(value), _AT_ONCE))
    return f"[{', '.join(parts)}]"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
