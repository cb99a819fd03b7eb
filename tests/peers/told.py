"""What the log is told, as values."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from relay import log


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """Give all that is told meanwhile, at every level: `event`, `log_level` and the facts. No line is written."""
    lines: list[dict[str, Any]] = []

    def tell(level: int, event: str, facts: dict[str, Any]) -> None:
        told = {key: value for key, value in facts.items() if value is not None}
        lines.append({**told, "event": event, "log_level": logging.getLevelName(level).lower()})

    with patch.object(log, "_tell", tell):
        yield lines
