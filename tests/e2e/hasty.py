"""Relays whose leases are short, so that nobody waits for minutes until a node that was stopped counts as lost.

The whole program runs as it is. Every process of it, workers too, is a Python that reads `sitecustomize` when it begins
(https://docs.python.org/3/library/site.html), and finds the one in our own folder.
"""

from pathlib import Path

_FOLDER = Path(__file__).with_name("in_haste")


def in_haste(messages: float, shares: float) -> tuple[str, ...]:
    """The command line of what runs a relay with leases of so many seconds, and becomes it (`Relay.start`)."""
    return ("env", f"PYTHONPATH={_FOLDER}", f"HASTY_MESSAGES={messages}", f"HASTY_SHARES={shares}")
