"""What the listener asks of the rest of the house. `relay.delivery` answers."""

from collections.abc import Callable
from typing import Protocol

from relay.directory.client import Client, Login
from relay.mail.content import Content, GrowingBody
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.mail.trace import Arrival
from relay.secrets.login_password import Verifier


class Submission(Protocol):
    """One message being handed to us."""

    def foresee(self, header: bytes, body: GrowingBody) -> None:
        """A large message comes: its whole header block, and of its body what is there already.

        Called at most once, before `begin`, whose content has them both.
        """

    def more(self) -> None:
        """The body of what was foreseen has grown."""

    def abandon(self) -> None:
        """What was foreseen never becomes whole. Has no effect once `begin` has been called."""

    def begin(self, content: Content, answer: Callable[[Reply], None]) -> None:
        """Do with the message what is to be done, in a task of its own. Called once.

        `answer` is called once, later, with what the client is told; whatever goes wrong is a reply, too.
        """

    def client_left(self) -> None:
        """Nobody waits for the reply any more. Called at most once, before `answer` is."""

    def hurry(self, seconds: float) -> None:
        """We stop: the reply is wanted within so many seconds, and before if it can be had."""


class Acceptance(Protocol):
    """Who may send, and where a message is handed over."""

    @property
    def hostname(self) -> str:
        """What we are called in greeting, EHLO and Received."""

    def check_sender(self, client: Client, envelope: Envelope) -> Reply | None:
        """Return the reply that refuses MAIL, or None to go on. The envelope has no recipients yet."""

    def open(self, client: Client, envelope: Envelope, arrival: Arrival) -> Submission:
        """Begin one submission: the message has come whole and `complete` follows, or it is foreseen."""


class Logins(Protocol):
    """Who can log in at Relay. `relay.secrets.authentication` answers.

    Both methods raise SecretUnavailable (`relay.secrets.sources`) or StoreError (`relay.store.db.errors`) where it
    cannot be told now, and TooManyLogins (`relay.secrets.authentication`) where too many wait for it: a client may try
    again. The message is for the log.
    """

    async def check(self, name: str, password: str) -> Login | None:
        """Return whose name and password these are, None where they are nobody's. Takes as long for either."""

    async def verifier(self, name: str) -> tuple[Login | None, Verifier]:
        """Return whose name it is, and what checks a SCRAM exchange. A name that is nobody's has a verifier, too."""
