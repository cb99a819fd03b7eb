"""The memory that all messages on their way in share: octets that clients have sent and nobody has answered for yet."""


class Memory:
    """A number of octets that many may take from. What one takes, it gives back."""

    def __init__(self, octets: int) -> None:
        self._free = octets

    @property
    def free(self) -> int:
        """How many octets nobody has taken."""
        return self._free

    def take(self, octets: int) -> bool:
        """Take octets, or none: False where that many are not free."""
        if octets > self._free:
            return False
        self._free -= octets
        return True

    def give_back(self, octets: int) -> None:
        """Return what was taken."""
        self._free += octets
