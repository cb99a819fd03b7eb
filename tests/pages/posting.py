"""Mail that tests of pages hand to a relay, as a mail client does."""

import smtplib
from collections.abc import Sequence
from email.message import EmailMessage

from tests.peers.console import Console
from tests.peers.system import LOOPBACK, wait_until


def post(
    console: Console,
    subject: str,
    *,
    sender: str = "support@acmejets.example",
    to: Sequence[str] = ("ann@customer.example",),
    helo: str = "laptop.example",
) -> None:
    """Hand a message over. Raises smtplib.SMTPException where it is refused."""
    message = EmailMessage()
    message["From"] = f"Jane <{sender}>"
    message["To"] = ", ".join(to)
    message["Subject"] = subject
    message.set_content("Hello,\nthis is about your flight.\n")
    with smtplib.SMTP(LOOPBACK, console.relay.port, local_hostname=helo, timeout=20) as client:
        client.send_message(message, from_addr=sender, to_addrs=list(to))


def id_of(console: Console, subject: str) -> str:
    """Return the id of the one message with this subject, as soon as the history has it."""
    return wait_until(lambda: _found(console, subject), f"the message {subject}")


def _found(console: Console, subject: str) -> str:
    every = console.relay.ask("messages", "list")
    return next((str(one["id"]) for one in every if _subject(console, one) == subject), "")


def _subject(console: Console, one: dict[str, object]) -> object:
    return console.relay.ask("messages", "show", str(one["id"]))["subject"]
