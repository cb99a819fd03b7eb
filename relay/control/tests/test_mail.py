"""The message that a test sends."""

from datetime import UTC, datetime

from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.header import Field, Header
from relay.mail.trace import format_date, message_id, new_id

TOKEN_FIELD = "X-Relay-Test"  # noqa: S105 - a name


def probe_message(sender: Address, recipient: Address, hostname: str, token: str = "") -> Content:
    """Return it. With a token it bears that on top and in its subject, so that it can be found where it arrives."""
    now = datetime.now(UTC)
    fields = {
        **({TOKEN_FIELD: token} if token else {}),
        "Date": format_date(now),
        "From": str(sender),
        "To": str(recipient),
        "Subject": f"Relay test message {token}".strip(),
        "Message-ID": message_id(new_id(now), sender),
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Auto-Submitted": "auto-generated",
    }
    header = Header(tuple(Field.make(name, value) for name, value in fields.items()))
    text = (
        "This message was sent by a test of Relay.\r\n\r\n"
        f"Sender: {sender}\r\nRecipient: {recipient}\r\nMachine: {hostname}\r\n"
    )
    return Content(bytes(header), (text.encode(),))
