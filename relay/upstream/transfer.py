"""What is to be handed over upstream, how long each step may take, and how far it is."""

from dataclasses import dataclass

from relay.directory.model import Account, Server
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.secrets.secret import Secret
from relay.upstream.phase import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One message for one account. `sender` None is the null sender `<>`.

    `smtputf8` is what the client declared at MAIL. With `all_or_none` nothing is sent once a recipient is refused
    (mode direct); without it the accepted recipients get the message.
    """

    server: Server
    account: Account
    secret: Secret | None
    sender: Address | None
    recipients: tuple[Recipient, ...]
    content: Content
    smtputf8: bool = False
    all_or_none: bool = False


@dataclass(slots=True)
class Progress:
    """How far a delivery is, for whoever waits for it.

    Until `final_dot_sent` it may be cancelled and nobody has the message; from then on only its outcome decides.
    """

    phase: Phase = Phase.RESOLVE
    final_dot_sent: bool = False


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
