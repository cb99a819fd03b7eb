"""Messages for a queue, as tests want them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.delivery.outcome import State, message_state
from relay.directory.client import Client
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Envelope, Recipient
from relay.mail.trace import Arrival, new_id
from relay.store.queue.messages import Attempt, HoldRow, NewMessage, StoredMessage, StoredRecipient

START = datetime(2025, 11, 24, 9, 0, tzinfo=UTC)
CONTENT = Content(b"From: jane@acmejets.example\r\nSubject: Hello\r\n", (b"Hello,\r\n", b"\xffbytes\r\n"))
BYTES = b"".join(CONTENT.chunks())


def stored(
    *states: State, to: Sequence[str] = ("ann@customer.example",), minute: int = 0, **facts: Any
) -> StoredMessage:
    """Return a message that came some minutes after START, its copies in these states (by default all queued)."""
    created = START + timedelta(minutes=minute)
    id_ = facts.pop("id", None) or new_id(created)
    sender = facts.pop("sender", "jane@acmejets.example")
    recipients = tuple(Recipient(Address.parse(address)) for address in to)
    each = states or (State.QUEUED,) * len(recipients)
    state = message_state(each)
    default: dict[str, Any] = {
        "profile": "jane",
        "size": CONTENT.size,
        "message_id": f"<{id_}@acmejets.example>",
        "subject": "Hello",
        "next_attempt": created + timedelta(hours=1) if state in {State.QUEUED, State.UNKNOWN} else None,
        "held_since": created if state is State.HELD else None,
    }
    return StoredMessage(
        id=id_,
        created=created,
        client=Client("127.0.0.1", "127.0.0.1", ("*",), is_trusted=True),
        arrival=Arrival("laptop", "127.0.0.1", "relay.test", "ESMTP", id_, created),
        envelope=Envelope(Address.parse(sender) if sender else None, recipients),
        recipients=tuple(
            StoredRecipient(number=number, recipient=recipient, state=str(one))
            for number, (recipient, one) in enumerate(zip(recipients, each, strict=True))
        ),
        state=str(state),
        **(default | facts),
    )


def new(message: StoredMessage, attempt: Attempt | None = None) -> NewMessage:
    """Return the message as it goes into the store, with CONTENT unless all is over."""
    return NewMessage(message=message, content=None if State(message.state).is_final else CONTENT, attempt=attempt)


def attempt(number: int = 1, **facts: Any) -> Attempt:
    """Return an attempt that ended with a refusal for now."""
    default: dict[str, Any] = {
        "started": START,
        "server": "acmejets",
        "username": "jane@acmejets.example",
        "phase": "rcpt",
        "ended": START + timedelta(seconds=2),
        "reply": "450 4.2.0 mailbox busy",
        "meaning": "temporary",
        "tls": "TLSv1.3",
    }
    return Attempt(number=number, **(default | facts))


def hold_row(server: str, username: str, address: str = "", **facts: Any) -> HoldRow:
    """Return a hold for a refused login, or for a refused address."""
    default: dict[str, Any] = {
        "meaning": "identity-refused" if address else "login-refused",
        "reason": "553 5.7.1 not yours" if address else "535 5.7.8 no",
        "since": START,
        "until": None,
        "probes": 0,
        "next_probe": None,
    }
    return HoldRow(server=server, username=username, address=address, **(default | facts))
