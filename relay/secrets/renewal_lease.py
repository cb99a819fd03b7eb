"""Renewing an account's tokens alone: a provider may take a refresh token that is used twice for a stolen one.

Where several processes share a store, they keep each other out by it.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from relay.secrets.sources import SecretDelayed


class StoreAway(SecretDelayed):
    """The store cannot be asked who else renews. The message is a sentence."""


class Alone(Protocol):
    """That nobody else renews now. `duty` is by what it is written, for the store."""

    @property
    def is_ours(self) -> bool:
        """Whether it still holds."""

    @property
    def duty(self) -> object:
        """By what it is written; None where nobody else could."""


class Guard(Protocol):
    """Keeps all others out."""

    def alone(self, owner: str) -> AbstractAsyncContextManager[Alone]:
        """Let nobody else renew the tokens of an owner within.

        Raises SecretDelayed where somebody else does for too long, and StoreAway.
        """


class Unguarded:
    """There is nobody else."""

    is_ours = True
    duty = None

    @asynccontextmanager
    async def alone(self, owner: str) -> AsyncIterator[Alone]:  # noqa: ARG002
        """Nobody has to be kept out."""
        yield self
