"""A body on its way to the disk: what comes waits for a thread, because the loop must not wait for a slow disk.

The kernel takes what is written into its memory at once, until there is too much of it: then each write waits for the
disk.
"""

from relay.mail.content import Body, Gathering, GrowingBody

_BLOCK = 512 * 1024  # octets for one way to a thread and back, which takes a tenth of a millisecond


class Behind:
    """Gathers a body for another who may write it to disk. `hand_on` and `finish` may wait for the disk."""

    def __init__(self, body: Gathering) -> None:
        self._body = body
        self._waiting: list[bytes] = []
        self._octets = 0  # of those

    @property
    def held(self) -> int:
        """How many octets are in memory now."""
        return self._octets + self._body.held

    @property
    def is_due(self) -> bool:
        """Whether so much waits that it is time to hand it on."""
        return self._octets >= _BLOCK

    def keeps(self, octets: int) -> bool:
        """Whether so many more octets stay in memory, and nothing waits."""
        return not self._waiting and self._body.keeps(octets)

    def add(self, chunk: bytes) -> None:
        """Take the next chunk. Waits for nothing."""
        if self.keeps(len(chunk)):
            self._body.add(chunk)
        else:
            self._waiting.append(chunk)
            self._octets += len(chunk)

    def hand_on(self) -> None:
        """Hand on what waits. Nothing may be added meanwhile. Raises what the other raises."""
        waiting, self._waiting, self._octets = self._waiting, [], 0
        for chunk in waiting:
            self._body.add(chunk)

    def so_far(self) -> GrowingBody | None:
        """Return what has been handed on, where that is outside of memory."""
        return self._body.so_far()

    def finish(self) -> Body:
        """Return the body. Raises what the other raises."""
        self.hand_on()
        return self._body.finish()
