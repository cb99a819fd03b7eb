"""What a client is given: where to connect, how to get in, and what to send."""

from base64 import encodebytes
from dataclasses import dataclass, field
from email.header import Header
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

from tests.peers.system import LOOPBACK, Finished


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a client connects to: host and port, or the path of a unix socket.

    `source` is the address that it comes from, "" for any; only tests.peers.raw heeds it.
    """

    host: str = LOOPBACK
    port: int = 0
    path: Path | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """How a client gets in: encryption, the authority that it trusts, and a login.

    `security` is none, starttls or tls. A client with TLS checks the certificate by `ca_file` alone. Who has a
    `username` logs in, by the `mechanism` (a name of SASL, in capitals) or, where it is "", as the client likes best.
    """

    security: str = "none"
    ca_file: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    mechanism: str = ""

    @property
    def logs_in(self) -> bool:
        """Whether the client is to log in."""
        return bool(self.username)


OPEN = Access()
_PARTS = """\
Content-Type: multipart/mixed; boundary="between"

--between
{body}
--between
Content-Type: application/octet-stream
Content-Disposition: attachment; filename=attached.bin
Content-Transfer-Encoding: base64

{attached}
--between--
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """What a client is to send. `content` has LF at its line ends, as files have them, and ends with one."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def open_content(self) -> bytes:
        """The content without its last LF, for clients that end it themselves whether it has one or not."""
        return self.content.removesuffix(b"\n")


@dataclass(frozen=True, slots=True)
class Composition:
    """What a person writes into a mail program: it makes the message itself. `text` ends with LF."""

    sender: str
    recipients: tuple[str, ...]
    subject: str
    text: str
    attachment: bytes = b""

    @property
    def letter(self) -> Letter:
        """The same as a finished message: eight bits and lines of any length, as they are."""
        encoded = Header(self.subject, "utf-8").encode()
        head = f"From: Jane <{self.sender}>\nTo: {', '.join(self.recipients)}\nSubject: {encoded}\nMIME-Version: 1.0\n"
        body = f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{self.text}"
        if self.attachment:
            attached = encodebytes(self.attachment).decode()
            body = _PARTS.format(body=body, attached=attached)
        return Letter(self.sender, self.recipients, (head + body).encode())

    def is_in(self, message: EmailMessage) -> bool:
        """Whether a message says the same: subject, text, and the attachment octet for octet."""
        text = message.get_body(("plain",))
        attached = [part.get_payload(decode=True) for part in message.iter_attachments()]
        return (
            message["Subject"] == self.subject
            and text is not None
            and text.get_content().splitlines() == self.text.splitlines()
            and attached == ([self.attachment] if self.attachment else [])
        )


class Client(Protocol):
    """A client that sends a message as it stands."""

    def __call__(self, endpoint: Endpoint, letter: Letter, access: Access = OPEN) -> Finished: ...


class Composer(Protocol):
    """A client that makes a message and sends it."""

    def __call__(self, endpoint: Endpoint, composition: Composition, access: Access = OPEN) -> Finished: ...
