"""The time of day, as everything that is stored and told has it."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time now, aware, in UTC. What has a clock takes this one, and a test gives another."""
    return datetime.now(UTC)
