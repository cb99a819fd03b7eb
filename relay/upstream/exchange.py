"""What all mechanisms of a login share: the lines of one exchange, as a generator (RFC 4954 section 4)."""

from collections.abc import Generator
from typing import TypeAlias

Exchange: TypeAlias = Generator[bytes, str, None]
"""Yields the lines that we send, the first with its AUTH, and is sent the text of each 334."""


class ExchangeStopped(Exception):
    """We do not go on with this login. The message says why in one sentence, and shows no secret."""
