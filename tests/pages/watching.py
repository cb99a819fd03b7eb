"""Reading what `watched_relay.py` writes down."""

from pathlib import Path


def longest_step(record: Path, begun: float) -> float:
    """Return the longest step of a watched relay's loop since a time of time.monotonic(), in seconds."""
    steps = [0.0]
    for line in record.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            at, late, used = map(float, line.split())
            if at >= begun:
                steps.append(min(late, used))
    return max(steps)
