"""The time of day, as everything that is stored and told has it."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

# Returns the time now, aware, in UTC. What has a clock takes this one, and a test gives another. Every message asks: a
# function of Python around it would be one more call.
utc_now: Callable[[], datetime] = partial(datetime.now, UTC)
