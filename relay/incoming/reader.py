"""What both protocols can do with an open mailbox. Readers block, and so run in threads (`mailboxes`).

Nothing is marked as read. A position is text that only its reader understands: what arrived before it is known.
"""

import re
from dataclasses import dataclass, field
from typing import Protocol

# What one look takes at most; the rest comes with the next one. The header of a mail is cut off behind so much.
MOST_NEW = 200
MOST_HEADER = 64 * 1024

_NAMES = frozenset(
    {"junk", "spam", "junk email", "junk e-mail", "junk mail", "bulk", "bulk mail", "spamverdacht", "quarantine"}
)


class MailboxFailed(Exception):
    """A mailbox cannot be read now. The message is one sentence with the server's words, and without a secret."""


class MailboxRefused(MailboxFailed):
    """The login was refused, or there is no secret: asking again helps nothing until somebody does something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxState:
    """How a mailbox of returned mail is: `state` is "ok", "failing" (with the `reason`) or "new".

    `checked` is when it was looked into last: a time of RFC 3339, in UTC.
    """

    owner: str
    host: str
    state: str
    checked: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """As whom a mailbox is opened, with a password or (`is_token`) with an access token of OAuth."""

    username: str
    secret: str = field(repr=False)
    is_token: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a mailbox, by the name that its server gives it."""

    name: str
    is_junk: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """A mail in a folder: the id by which the server knows it, and its header."""

    uid: str
    header: bytes


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What arrived behind a position, the oldest first, and the position behind it."""

    heads: tuple[Head, ...]
    position: str


INBOX = Folder("INBOX")


class Reader(Protocol):
    """An open mailbox. Every method raises MailboxFailed."""

    sees_arrivals: bool
    """Whether what arrives later is seen, or only by opening the mailbox anew (POP3)."""

    def folders(self) -> tuple[Folder, ...]:
        """Return the inbox, and the junk folder if there is one."""

    def position(self, folder: Folder) -> str:
        """Return the position behind all that is there."""

    def arrivals(self, folder: Folder, position: str) -> Arrivals:
        """Return what arrived behind a position, at most MOST_NEW. One that is no longer good is as of now."""

    def content(self, folder: Folder, uid: str, octets: int) -> bytes:
        """Return the first octets of a mail, or a little more; b"" where it is gone."""

    def remove(self, folder: Folder, uid: str) -> bool:
        """Delete one mail; False where it could only be marked as deleted."""

    def leave(self) -> None:
        """Say good-bye. What was deleted is gone then."""

    def drop(self) -> None:
        """Close the connection at once. Raises nothing."""


def is_junk_name(name: str) -> bool:
    """Whether a folder is for junk by the last part of its name ("INBOX.Spam", "[Gmail]/Spam")."""
    return re.split(r"[./\\]", name)[-1].strip().lower() in _NAMES
