"""What happens at the listeners, for the log and the counters: one function for each event."""

from dataclasses import dataclass, field

from relay import log
from relay.listener import replies
from relay.mail.reply import Reply
from relay.metrics import Metrics
from relay.system.fault_barrier import harmless


@harmless
@dataclass(frozen=True, slots=True)
class ListenerEvents:
    """Tells what happens at the listeners of one relay."""

    metrics: Metrics = field(default_factory=Metrics)

    def connected(self) -> None:
        """A client connected. No line of the log: what it does has one."""
        self.metrics.connected()

    def protected(self, version: str) -> None:
        """A connection is under TLS from now on. No line of the log: what the client does has one."""
        self.metrics.protected(version)

    def unprotected(self, client: str, reason: str) -> None:
        """A connection was to be put under TLS, and is gone."""
        self.metrics.tls_failed()
        self.refused(client, "TLS", replies.NO_TLS, reason=reason)

    def refused(self, client: str, at: str, reply: Reply, **facts: str | None) -> None:
        """A connection, command or message was refused. `at` is the verb, or the step where there is none."""
        self.metrics.refused(reply.enhanced)
        log.refused(client=client, at=at, reply=str(reply), **facts)

    def login_refused(self, client: str, name: str, reply: Reply) -> None:
        """A login was refused. `name` as the client gave it: cleaned, and never the password."""
        self.metrics.login_refused()
        self.refused(client, "AUTH", reply, login=name)
