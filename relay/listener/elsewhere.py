"""What several processes of one relay count together: its clients, and their bad logins."""

from dataclasses import dataclass
from typing import Protocol

from relay.listener.login_failures import LoginFailures


class Elsewhere(Protocol):
    """How many clients the other processes have."""

    @property
    def connections(self) -> int:
        """All of them."""

    def of(self, peer: str) -> int:
        """Return those of one peer."""


class Nowhere:
    """There is one process in all."""

    connections = 0

    def of(self, _: str) -> int:
        """Return none."""
        return 0


@dataclass(frozen=True, slots=True)
class Together:
    """The clients of the others, and the bad logins of all."""

    elsewhere: Elsewhere
    failures: LoginFailures
