"""What is to be handed over upstream, how long each step may take, and how far it is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, TypeAlias

from relay.directory.model import Account, Server
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.mail.notify import Return
from relay.secrets.secret import Secret
from relay.upstream.arriving import Arriving
from relay.upstream.outcome import Outcome, Phase

Gate: TypeAlias = Callable[[], Awaitable[None]]


class RequireTls(Enum):
    """Whether a server must promise to pass a message on by TLS alone (REQUIRETLS, RFC 8689)."""

    NO = auto()
    WHERE_OFFERED = auto()  # a bounce: rather without the promise than not at all (section 5)
    ALWAYS = auto()


class Ahead(Protocol):
    """A message that is on its way already (`relay.upstream.head_start`)."""

    def abandon(self) -> None:
        """End it, unless somebody has taken it on."""

    async def finish(self, transfer: "Transfer", progress: "Progress") -> Outcome | None:
        """Take it on, and return what came of it; None where the message has to be handed over anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One message for one account. `sender` None is the null sender `<>`.

    `smtputf8` is what the client declared at MAIL. With `all_or_none` nothing is sent once a recipient is refused
    (mode direct); without it the accepted recipients get the message. `ret` and `envid` are what the client gave at
    MAIL (RFC 3461); they and what the recipients carry of it are told to a server that has DSN. `require_tls` is about
    the way behind that server; the way to it is always as the server's own settings say. `head_start` has begun to
    hand it over already; with `arriving` it is such a beginning, `content` is without its body, and all or none get it.
    """

    server: Server
    account: Account
    secret: Secret | None
    sender: Address | None
    recipients: tuple[Recipient, ...]
    content: Content
    smtputf8: bool = False
    all_or_none: bool = False
    ret: Return | None = None
    envid: str = ""
    require_tls: RequireTls = RequireTls.NO
    arriving: Arriving | None = None
    head_start: Ahead | None = None


@dataclass(slots=True)
class Progress:
    """How far a delivery is, for whoever waits for it.

    Until `final_dot_sent` it may be cancelled and nobody has the message; from then on only its outcome decides.

    `before_final_dot`, where it is set, is awaited when all of the message but its final dot has left. It may take as
    long as it likes, may be set as long as `final_dot_sent` is False, and stops the delivery by an exception: the
    connection is closed and nobody has the message.

    `on_mail`, where it is set, is awaited before each MAIL: providers count messages by it. An exception stops the
    delivery as above.
    """

    phase: Phase = Phase.RESOLVE
    final_dot_sent: bool = False
    before_final_dot: Gate | None = None
    on_mail: Gate | None = None

    async def note_mail(self) -> None:
        """MAIL is written when this returns."""
        if self.on_mail is not None:
            await self.on_mail()

    def note_final_dot(self) -> None:
        """The dot is written now. To be called without an await between this and the look at `before_final_dot`."""
        self.phase = Phase.FINAL
        self.final_dot_sent = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long, in seconds, one step may take (RFC 5321 section 4.5.3.2).

    `connect` counts for the TCP connection and again for the TLS handshake, `reply` for the answer to each command,
    `chunk` for each piece of the message to leave, `final` for the answer to the final dot. An unused connection is
    closed after `idle`, and the server may take `quit` to say good-bye.
    """

    connect: float = 30
    reply: float = 300
    chunk: float = 180
    final: float = 600
    idle: float = 30
    quit: float = 5

    def of(self, phase: Phase) -> float:
        """How long a server may be silent in a phase."""
        match phase:
            case Phase.RESOLVE | Phase.CONNECT | Phase.STARTTLS:
                return self.connect
            case Phase.CONTENT:
                return self.chunk
            case Phase.FINAL:
                return self.final
            case _:
                return self.reply
