"""The desk: where the listener asks who may send, and hands over what a client submits."""

from collections.abc import Callable
from dataclasses import dataclass

from relay.delivery import replies
from relay.delivery.history import History
from relay.delivery.office import Office, Refused
from relay.delivery.postman import Postman
from relay.delivery.submission import Submission
from relay.directory.client import Client
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.mail.trace import Arrival


@dataclass(frozen=True, slots=True)
class Desk:
    """The one counter behind every listener (`relay.listener.ports.Desk`). `why_not`: why no mail is taken just now."""

    hostname: str
    office: Office
    postman: Postman
    history: History
    why_not: Callable[[], Reply | None] = lambda: None

    def check_sender(self, client: Client, envelope: Envelope) -> Reply | None:
        """Say at MAIL why this client may not send as this sender; None lets it go on.

        A null sender names nobody: the From header decides at the end of the data.
        """
        if not client.may_submit:
            return replies.AUTHENTICATION_REQUIRED
        if envelope.sender is not None:
            try:
                self.office.find_route(client, envelope.sender)
            except Refused as refusal:
                return refusal.reply
        return self.why_not()

    def open(self, client: Client, envelope: Envelope, arrival: Arrival) -> Submission:
        """Begin one submission; its content follows."""
        return Submission(self.office, self.postman, self.history, client, envelope, arrival)
