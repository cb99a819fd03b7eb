"""Commands that leave in one go, and what the server answered to each of them (RFC 2920)."""

from dataclasses import dataclass, field
from typing import NamedTuple

from aiosmtplib.response import SMTPResponse

from relay.mail.reply import Reply
from relay.upstream.outcome import Failure
from relay.upstream.phase import Phase


class Command(NamedTuple):
    """One command, without its line end. `recipient` is the index of whom it names in the transfer; -1: nobody."""

    phase: Phase
    line: bytes
    recipient: int = -1


RSET = Command(Phase.MAIL, b"RSET")
DATA = Command(Phase.DATA, b"DATA")


@dataclass(slots=True)
class Answers:
    """What a server answered to a group, in the order of its commands. `failure` is why answers are missing behind."""

    responses: list[SMTPResponse] = field(default_factory=list)
    failure: Failure | None = None

    def take(self, group: tuple[Command, ...], response: SMTPResponse) -> bool:
        """Note the next answer, and tell whether those behind it are worth waiting for.

        After a 421 the server closes (RFC 5321 section 3.8). A code that answers no command means that answers and
        commands are not in step; after a 354 the server takes what follows for a message.
        """
        self.responses.append(response)
        is_last = len(self.responses) == len(group)
        most = 399 if is_last else 299
        return 200 <= response.code <= most or (400 <= response.code <= 599 and response.code != 421)

    @property
    def last(self) -> Reply:
        """The last answer; there is one where nothing has failed."""
        response = self.responses[-1]
        return Reply.of_upstream(response.code, response.message)

    @property
    def is_invited(self) -> bool:
        """Whether the last answer was 354: the server waits for a message."""
        return bool(self.responses) and self.responses[-1].code // 100 == 3
