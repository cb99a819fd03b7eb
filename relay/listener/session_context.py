"""What the sessions of one listener need to know, and what all sessions share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.config.settings import Limits
from relay.listener.auth import Authenticator
from relay.listener.client_identity import ClientRules
from relay.listener.events import ListenerEvents
from relay.listener.ports import Acceptance
from relay.listener.receiving import Memory, MessageReceiver, Turns
from relay.listener.session_limits import Flow, SessionLimits
from relay.listener.session_registry import SessionRegistry
from relay.mail.content import NewBody

if TYPE_CHECKING:
    from relay.listener.tls import LiveCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """What all sessions of a relay share."""

    acceptance: Acceptance
    authenticator: Authenticator
    limits: Limits
    session_limits: SessionLimits
    events: ListenerEvents
    registry: SessionRegistry
    memory: Memory
    turns: Turns
    new_body: NewBody

    def new_receiver(self, clock: Callable[[], float], began: float) -> MessageReceiver:
        """Begin a message that a client could send from then on; `clock` tells the time in seconds."""
        flow = Flow(self.session_limits.least_rate, began)
        return MessageReceiver(self.limits.message_size, self.memory, flow, clock, self.new_body, self.turns)


@dataclass(frozen=True, slots=True)
class ListenerContext:
    """One listener. Without a certificate it has no TLS; with one, TLS comes first or when the client asks for it.

    One `is_for_devices` has sessions of `relay.listener.devices`.
    """

    rules: ClientRules
    certificate: "LiveCertificate | None" = None
    is_tls_first: bool = False
    is_for_devices: bool = False
