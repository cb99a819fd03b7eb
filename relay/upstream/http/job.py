"""What an API is asked to do with one message: the port that every API is behind, and the message as an API gets it.

It gets the very octets that SMTP would get. Graph and Gmail have no envelope: they send to whom To, Cc and Bcc name, to
all of them and to nobody else. So recipients whom the message does not name stand in a Bcc field, which the provider
takes off before anybody reads the message. A message that names somebody who is not to have it cannot go this way, and
is refused rather than sent to them. APIs of kind https have an envelope, and get the message as it is.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from relay.directory.model import Kind, Meaning, Server
from relay.mail.address import Address, AddressError
from relay.mail.content import Content
from relay.mail.header import Header
from relay.mail.reply import Reply, clean_text
from relay.mail.structured_fields import ListFault, parse_address_list
from relay.upstream.http.client import Answer, ApiClient
from relay.upstream.http.meaning import refusal_of
from relay.upstream.outcome import Failed, Phase, own_failure
from relay.upstream.transaction import Progress, RequireTls, Transfer, needs_smtputf8

_NAMED_IN = ("to", "cc")
_BASE64_PIECE = 57 * 1024  # octets; a multiple of three, so that pieces join
_NO_REQUIRETLS = Reply(550, "5.7.30", "REQUIRETLS is not supported by the outgoing mail server")


@dataclass(frozen=True, slots=True)
class ApiMessage:
    """A message, with its recipients in the header where the API has no envelope.

    `message_id` is by what it is found again ("" without one), `recipients` are addresses as they compare, `envelope`
    as they are. `utf8` is what to say where the API takes only ASCII, None where the message does not need more.
    """

    content: Content
    message_id: str
    recipients: frozenset[str]
    envelope: tuple[Address, ...] = ()
    utf8: Reply | None = None

    @classmethod
    def of(cls, transfer: Transfer) -> "ApiMessage":
        """Return what of a transfer leaves. Raises Failed for what an API cannot be told."""
        if transfer.require_tls is RequireTls.ALWAYS:
            raise cannot(_NO_REQUIRETLS)
        header = Header.parse(transfer.content.header)
        message_id = header.text_of("message-id").strip()
        wanted = {recipient.address.key: recipient.address for recipient in transfer.recipients}
        if transfer.server.kind is Kind.HTTPS:
            people = tuple(wanted.values())
            return cls(transfer.content, message_id, frozenset(wanted), people, needs_smtputf8(transfer))
        named = _named(header)
        if others := [text for key, text in named.items() if key not in wanted]:
            raise cannot(
                Reply(
                    554,
                    "5.6.0",
                    f"To and Cc name {others[0]}, who is no recipient of this message; this provider sends to all whom "
                    "they name",
                )
            )
        hidden = [address for key, address in wanted.items() if key not in named]
        block = transfer.content.header
        if hidden:
            block += b"Bcc: " + b",\r\n ".join(address.text.encode() for address in hidden) + b"\r\n"
        return cls(Content(block, transfer.content.body), message_id, frozenset(wanted))


def base64_size(size: int) -> int:
    """Return how many octets so many are in base64, without line ends."""
    return (size + 2) // 3 * 4


def base64_pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield chunks in base64, without line ends."""
    held = b""
    for chunk in chunks:
        held += chunk
        if len(held) >= _BASE64_PIECE:
            end = len(held) // 3 * 3
            yield b64encode(memoryview(held)[:end])
            held = held[end:]
    yield b64encode(held)


def _named(header: Header) -> dict[str, str]:
    """Return the addresses in To and Cc, by how they compare."""
    named: dict[str, str] = {}
    for key in _NAMED_IN:
        for field in header.get_all(key):
            try:
                for listed in parse_address_list(field.text):
                    named[Address.parse(listed.text).key] = listed.text
            except (ListFault, AddressError) as fault:
                words = f"{key.capitalize()} cannot be read, and this provider takes the recipients from it: {fault}"
                raise cannot(Reply(554, "5.6.0", clean_text(words))) from None
    return named


def cannot(reply: Reply) -> Failed:
    """Return the refusal of a message that an API cannot be told, which is ours."""
    return Failed(own_failure(Phase.MAIL, reply, Meaning.REFUSED))


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Whose mail is sent: `username` logs in with a token or, for kind https, a key; it leaves as `identity`."""

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


@dataclass(frozen=True, slots=True)
class SendAs:
    """What is known of an address before a message is sent, in a sentence, and whether that proves that it may."""

    words: str
    is_proven: bool


class Api(Protocol):
    """One provider's API (`relay.upstream.http.graph`, `.gmail`, `.ses`, `.mailgun`). Everything may raise Failed."""

    async def send(self, client: ApiClient, job: Job) -> Reply:
        """Hand a message over for all its recipients, and return what was answered."""

    async def has(self, client: ApiClient, job: Job, since: datetime) -> bool:
        """Whether the provider has sent this message for all these recipients, since then.

        Programs use a Message-ID again: what was sent before a message came is another one.
        """

    async def look(self, client: ApiClient, mailbox: Mailbox) -> str:
        """Look whether the token is good and the mailbox there; return what that tells, in a sentence."""

    async def may_send_as(self, client: ApiClient, mailbox: Mailbox) -> SendAs:
        """Look whether the mailbox may send as its identity. Raises Failed where it may not."""


def good(answer: Answer, mailbox: Mailbox, *, has_sent: bool = False) -> Answer:
    """Return an answer that does what was asked for. Raises Failed for any other.

    `has_sent`: the request was the one that sends the message.
    """
    if answer.is_good:
        return answer
    server = mailbox.server
    raise Failed(refusal_of(answer, server.api_name, server.answers, has_sent=has_sent))


def accepted(provider: str, answer: Answer, id_: str = "") -> Reply:
    """Return what SMTP would have had of a provider that took a message, with the name that it gave the message."""
    name = f" as {clean_text(id_)[:100]}" if id_ else ""
    return Reply.of_upstream(250, f"2.0.0 accepted by {provider}{name} (HTTP status {answer.status})")
