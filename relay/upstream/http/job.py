"""What an API is asked to do with one message, and the port that every API is behind."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from relay.directory.model import Server
from relay.mail.address import Address
from relay.mail.reply import Reply
from relay.upstream.http.client import Answer, ApiClient
from relay.upstream.http.meaning import refusal_of
from relay.upstream.http.message import ApiMessage
from relay.upstream.outcome import Failed
from relay.upstream.transaction import Progress


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Whose mail is sent, with which token: `username` logs in, the mail leaves as `identity`."""

    server: Server
    username: str
    identity: Address
    token: str


@dataclass(frozen=True, slots=True)
class Job:
    """One message to be handed over."""

    mailbox: Mailbox
    message: ApiMessage
    progress: Progress


class Api(Protocol):
    """One provider's API (`relay.upstream.http.graph`, `relay.upstream.http.gmail`). Everything may raise Failed."""

    async def send(self, client: ApiClient, job: Job) -> Reply:
        """Hand a message over for all its recipients, and return what was answered."""

    async def has(self, client: ApiClient, job: Job, since: datetime) -> bool:
        """Whether the provider has sent this message for all these recipients, since then.

        Programs use a Message-ID again: what was sent before a message came is another one.
        """

    async def look(self, client: ApiClient, mailbox: Mailbox) -> str:
        """Look whether the token is good and the mailbox there; return what that tells, in a sentence."""

    async def may_send_as(self, client: ApiClient, mailbox: Mailbox) -> str:
        """Look whether the mailbox may send as its identity, and return what that proves, in a sentence."""


def good(answer: Answer, mailbox: Mailbox, *, has_sent: bool = False) -> Answer:
    """Return an answer that does what was asked for. Raises Failed for any other.

    `has_sent`: the request was the one that sends the message.
    """
    if answer.is_good:
        return answer
    server = mailbox.server
    raise Failed(refusal_of(answer, server.kind, server.answers, has_sent=has_sent))


def accepted(provider: str, answer: Answer) -> Reply:
    """Return what SMTP would have had of a provider that took a message."""
    return Reply.of_upstream(250, f"2.0.0 accepted by {provider} (HTTP status {answer.status})")
