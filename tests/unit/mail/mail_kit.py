"""What the tests of mail/ share: one profile with an alias, its clients, and a message on its way through compose."""

from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from relay.mail.address import Address
from relay.mail.content import Content, ContentReader
from relay.mail.envelope import Recipient
from relay.mail.header import Header
from relay.mail.identity import Alignment, Mismatch, Ownership
from relay.mail.outgoing import Outgoing, compose
from relay.mail.trace import Arrival

REWRITE, REJECT = Mismatch.REWRITE, Mismatch.REJECT
SUPPORT, HELP, MAILER = "support@acme.example", "help@acme.example", "mailer@acme.example"
# The profile is support@ with the alias help@; the client may also send as sales@, and not as ceo@.
STANDINGS = MappingProxyType(
    {
        SUPPORT: Ownership.SAME,
        HELP: Ownership.SAME,
        "sales@acme.example": Ownership.ALLOWED,
        "ceo@acme.example": Ownership.FORBIDDEN,
    }
)
ARRIVAL = Arrival(
    helo="client.example",
    peer="192.0.2.7",
    hostname="relay.example",
    protocol="ESMTP",
    id="0123456789abcdefghijklmn",
    received_at=datetime(2025, 11, 24, 9, 5, 7, tzinfo=UTC),
)
# What every row's message holds beside the fields that it is about.
REST = (b"Date: Mon, 24 Nov 2025 09:00:00 +0000", b"Message-ID: <1@client.example>")


@dataclass(frozen=True)
class Client:
    """A client with "*" sees nobody's addresses as NOBODY, any other as FORBIDDEN."""

    is_trusted: bool = True

    def ownership(self, address: Address) -> Ownership:
        known = STANDINGS.get(address.without_tag.key)
        return known or (Ownership.NOBODY if self.is_trusted else Ownership.FORBIDDEN)


def alignment(
    identity: str = SUPPORT,
    reply_to: str | None = None,
    sender: str | None = SUPPORT,
    mismatch: Mismatch = REWRITE,
    client: Client = Client(),
) -> Alignment:
    return Alignment(
        identity=Address.parse(identity),
        reply_to=Address.parse(reply_to) if reply_to else None,
        sender=Address.parse(sender) if sender else None,
        mismatch=mismatch,
        ownership=client.ownership,
    )


OWN = alignment()
SHARED = alignment(identity=MAILER, reply_to=SUPPORT)


def read(message: bytes) -> Content:
    reader = ContentReader()
    reader.feed(message)
    return reader.finish()


def send(
    message: bytes,
    aligned: Alignment,
    recipients: int = 1,
    script: tuple[dict[str, str], list[str]] | None = None,
    arrival: Arrival = ARRIVAL,
) -> Outgoing:
    content = read(message)
    return compose(
        content,
        Header.parse(content.header),
        arrival=arrival,
        recipients=tuple(Recipient(Address.parse(f"bob{at}@customer.example")) for at in range(recipients)),
        alignment=aligned,
        script=script,
    )


def fields_of(outgoing: Outgoing) -> list[bytes]:
    """The header as it leaves, without Received, each field in one line."""
    return [item.raw.replace(b"\r\n", b"") for item in Header.parse(outgoing.content.header).fields[1:]]


def lines(*fields: str | bytes) -> list[bytes]:
    return [item if isinstance(item, bytes) else item.encode() for item in fields]


# What is fed 256 times, so that there are 16 MiB (of LF: as many, which become CRLF).
SIXTEEN_MEBIBYTES = {
    "CRLF": b"\r\n" * 32768,
    "LF": b"\n" * 65536,
    "long lines": b"." * 65534 + b"\r\n",
}
