"""Commands that leave in one go, and what the server answered to each of them (RFC 2920)."""

from dataclasses import dataclass, field
from typing import NamedTuple

from aiosmtplib.response import SMTPResponse

from relay.mail.reply import Reply
from relay.upstream.outcome import Failure, Phase


class Command(NamedTuple):
    """One command, without its line end. `recipient` is the index of whom it names in the transfer; -1: nobody."""

    phase: Phase
    line: bytes
    recipient: int = -1


RSET = Command(Phase.MAIL, b"RSET")
DATA = Command(Phase.DATA, b"DATA")


@dataclass(slots=True)
class Answers:
    """What a server answered to a group, in the order of its commands.

    `failure` is why answers are missing behind, or why these are not believed.
    """

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

    def mismatch(self, group: tuple[Command, ...]) -> str:
        """Return why the answers cannot be those of these commands, "" where they can.

        An answer too many moves all that follow it by one command, and then one of them meets the wrong command: only
        DATA is answered 354, it has no other success, and nobody is accepted without a sender. A 354 in its place
        proves that none came before it.
        """
        if self.is_invited and len(self.responses) == len(group) and group[-1] is DATA:
            return ""
        has_sender = True
        for command, response in zip(group, self.responses, strict=False):
            digit, verb = response.code // 100, command.line[:4].decode()
            if digit not in {3 if command is DATA else 2, 4, 5}:
                return f"{verb} was answered {response.code} {response.message}"
            if digit == 2 and not has_sender:
                return f"{verb} was answered {response.code} behind a refused MAIL"
            has_sender = has_sender and (command.phase is not Phase.MAIL or digit == 2)
        return ""

    @property
    def last(self) -> Reply:
        """The last answer; there is one where nothing has failed."""
        response = self.responses[-1]
        return Reply.of_upstream(response.code, response.message)

    @property
    def is_invited(self) -> bool:
        """Whether the last answer was 354: the server waits for a message."""
        return bool(self.responses) and self.responses[-1].code // 100 == 3
