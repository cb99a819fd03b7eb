"""What came of a delivery: accepted, refused for some recipients, or failed, and in whose words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.directory.model import Meaning
from relay.mail.reply import Reply
from relay.upstream.phase import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One thing that did not work.

    `reply` is the server's own, or one that we made where it gave none (`from_server` tells which). `detail` is for
    the log alone: an exception's words, host names. `in_next_transaction` marks a recipient that the server only has
    no room for in this transaction (452 4.5.3 at RCPT, RFC 5321 section 4.5.3.1.10): send it in another one.
    `out_of_step`: the server's answers cannot be those of our commands, so nothing that it said is believed.
    """

    phase: Phase
    reply: Reply
    meaning: Meaning
    from_server: bool
    detail: str = ""
    in_next_transaction: bool = False
    out_of_step: bool = False

    @property
    def is_closing(self) -> bool:
        """Whether the server only closed this connection (421), without words that say more."""
        return self.from_server and self.reply.code == 421 and self.meaning is Meaning.TEMPORARY

    @property
    def why(self) -> str:
        """The reply and what else is known, for those who look after the accounts."""
        return f"{self.reply} ({self.detail})" if self.detail else str(self.reply)

    def __str__(self) -> str:
        return f"{self.phase}: {self.reply}" + (f" ({self.detail})" if self.detail else "")


class Failed(Exception):
    """A step of a delivery did not work. Carries its failure; inside `upstream` only."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection was encrypted: "TLSv1.3" and the cipher's name."""

    version: str
    cipher: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one transfer: `accepted` or `failure`, never both.

    `accepted` is the answer to the final dot: every recipient that is not in `refused` has the message. `failure` is
    why nobody has it; where recipients were refused, that is the first one's. `refused` holds the recipients that were
    refused at RCPT, by their index in the transfer. `host` and `tls` say who answered and how the way was protected,
    `has_dsn` whether the server was told what the client asked about reports (RFC 3461) and so answers for it.
    `refuses_null_sender`: what failed was MAIL FROM:<> itself, and so says nothing about the account.
    `on_new_connection`: no message went over this connection before.
    """

    host: str
    accepted: Reply | None = None
    failure: Failure | None = None
    refused: Mapping[int, Failure] = field(default_factory=dict)
    tls: Tls | None = None
    has_dsn: bool = False
    refuses_null_sender: bool = False
    on_new_connection: bool = True

    def __post_init__(self) -> None:
        if (self.accepted is None) == (self.failure is None):
            raise ValueError("a transfer is either accepted or has failed")

    @property
    def is_complete(self) -> bool:
        """Whether the server has the message for every recipient."""
        return self.failure is None and not self.refused

    @property
    def first_failure(self) -> Failure | None:
        """What went wrong, or at the first recipient; recipients whose turn is still to come are no failure."""
        return self.failure or next((each for each in self.refused.values() if each.from_server), None)

    def failure_at(self, index: int) -> Failure | None:
        """What happened to one recipient: None where the server accepted the message for it."""
        return self.refused.get(index, self.failure)
