"""What no setting says: how long a client may be silent, how slow, how fast, and how often wrong."""

from dataclasses import dataclass, field

from relay.listener.pace import LeastRate, MostCommands

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """The bounds of one session, and of the messages of all sessions together."""

    errors: int = 20  # commands that could not be understood, since the last accepted message
    idle_seconds: float = 300.0  # RFC 5321 section 4.5.3.2.7 wants at least 5 minutes
    login_pause: float = 1.0  # seconds before the answer to a third wrong login; each further one waits twice as long
    proxy_seconds: float = 5.0  # until the PROXY header is there; proxies send it at once
    handshake_seconds: float = 30.0  # until TLS is up
    goodbye_seconds: float = 5.0  # until the client has answered our end of TLS
    most_commands: MostCommands = field(default_factory=MostCommands)
    lull: float = 1.0  # when we stop: how long a client may be silent before it is told so
    farewell: float = 5.0  # and how long one that is not silent may go on outside of a message
    notice: float = 10.0  # when we rest: until proxies know by their checks, and those who come are turned away
    least_rate: LeastRate = field(default_factory=LeastRate)
    memory: int = 256 * _MIB  # octets of all messages that are on their way in, or wait for the answer about them
