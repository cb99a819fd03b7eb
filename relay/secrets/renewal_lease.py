"""The lease under which one process renews an account's tokens, where several share a store.

A provider may take a refresh token that is used twice for a stolen one, so they keep each other out.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from relay.secrets.sources import SecretDelayed


class LeasesAway(SecretDelayed):
    """The store cannot be asked who else renews. The message is a sentence."""


class RenewalLease(Protocol):
    """While it holds, nobody else renews the tokens. `named` is the lease as the store knows it."""

    @property
    def is_ours(self) -> bool:
        """Whether it still holds."""

    @property
    def named(self) -> object:
        """The lease as the store knows it, which refuses what is written by a lost one; None where there is none."""


class RenewalLeases(Protocol):
    """Gives one lease for each owner at a time, among all processes at a store."""

    def lease(self, owner: str) -> AbstractAsyncContextManager[RenewalLease]:
        """Hold the lease of an owner's tokens within.

        Raises SecretDelayed where somebody else holds it for too long, and LeasesAway.
        """


class NoOtherProcess:
    """The lease where this is the only process: it always holds."""

    is_ours = True
    named = None

    @asynccontextmanager
    async def lease(self, owner: str) -> AsyncIterator[RenewalLease]:  # noqa: ARG002
        """Give it at once."""
        yield self
