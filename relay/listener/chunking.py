"""BDAT: a message in chunks whose lengths are told before them (RFC 3030).

SECURITY: a chunk's octets are never looked at for an end or a dot, and a chunk that is refused passes by to its last
octet. So no content is ever read as a command.
"""

from relay.listener.commands import BdatCommand
from relay.listener.intake import Intake
from relay.listener.wire import Wire
from relay.mail.content import Content, ContentRefused
from relay.mail.reply import Reply


class Chunks:
    """One message that comes by BDAT. Once something of it was refused, all that follows of it is refused alike.

    `refusal` is given where no message may come now.
    """

    def __init__(self, intake: Intake, refusal: Reply | None = None) -> None:
        self._intake = intake
        self._refusal = refusal

    async def read(self, wire: Wire, chunk: BdatCommand) -> Content | None:
        """Read one chunk; return the message after the last, else None. Raises ContentRefused and ClientLeft."""
        left = chunk.octets
        while left:
            octets = await wire.chunk(left)
            left -= len(octets)
            if self._refusal is None:
                async with self._intake.turn(octets):
                    self._intake.feed(octets)
                await self._intake.settle()
            else:
                self._intake.pass_by(octets)
        self._refusal = self._refusal or self._intake.refusal
        if self._refusal is not None:
            raise ContentRefused(self._refusal)
        return await self._intake.finish() if chunk.is_last else None

    def close(self) -> None:
        """Forget the message."""
        self._intake.close()
