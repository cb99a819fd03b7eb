"""How many of the connections that a provider allows this process may have, where others use the same accounts."""

import sys
from collections.abc import Callable
from typing import Protocol


class Allowance(Protocol):
    """What one scope may have now."""

    @property
    def granted(self) -> int:
        """How many connections may be open now. Where it falls, those in use go on, and none is opened instead."""

    def report(self, limit: int, wanted: int, is_open: int) -> None:
        """Tell how many the server allows, how many would be used, and how many the provider counts now."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Have this called, and nothing else any more, whenever `granted` is another; never within `report`."""


class Unshared:
    """There is nobody else: all that the server allows."""

    granted = sys.maxsize

    def report(self, limit: int, wanted: int, is_open: int) -> None:
        """Nobody needs to know."""

    def watch(self, changed: Callable[[], None]) -> None:
        """It never is another."""


def unshared(scope: str) -> Allowance:  # noqa: ARG001
    """Return the allowance of a scope that no other process uses."""
    return Unshared()
