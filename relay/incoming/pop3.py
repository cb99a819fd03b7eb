"""A mailbox by POP3 (RFC 1939), on the standard library's poplib.

POP3 shows the inbox alone, as it was at the login. A mail is known by its unique id (UIDL); which ones were there is
remembered by the last hundred of them, because others may have deleted some.
SECURITY: what a server may make us hold in memory is bounded.
"""

import poplib
import socket
import ssl
from base64 import b64decode, b64encode

from relay.incoming.reader import (
    INBOX,
    MOST_HEADER,
    MOST_NEW,
    Arrivals,
    Credentials,
    Folder,
    Head,
    MailboxFailed,
    MailboxRefused,
)
from relay.incoming.token_login import TokenLogin

_REMEMBERED = 100
_OCTETS_OF_A_LINE = 64
# poplib takes lines of 2 KiB; mail has longer ones.
_MOST_IN_A_LINE = 1024 * 1024
_MOST_IN_ALL = 128 * 1024 * 1024


class _Client(poplib.POP3):
    """poplib on a line that is connected already."""

    def __init__(self, line: socket.socket, host: str, port: int) -> None:
        self._line = line
        self._octets = 0
        try:
            super().__init__(host, port)
        except BaseException:
            self.close()
            raise

    def _create_socket(self, timeout: float | None = None) -> socket.socket:  # noqa: ARG002 - poplib's own name
        return self._line

    def _getline(self) -> tuple[bytes, int]:
        """Return the next line without its end, and its length with it: as poplib's own, with our bounds."""
        line = self.file.readline(_MOST_IN_A_LINE + 1)
        self._octets += len(line)
        if not line:
            raise poplib.error_proto("the server has closed the connection")
        if len(line) > _MOST_IN_A_LINE or self._octets > _MOST_IN_ALL:
            raise poplib.error_proto("an answer is too long")
        return line.rstrip(b"\r\n"), len(line)

    def authenticate(self, login: TokenLogin) -> None:
        """Log in by AUTH (RFC 5034). Its token goes in a line of its own: a command has at most 255 octets."""
        said = self._answer_to(f"AUTH {login.mechanism}".encode())
        while said.startswith(b"+ ") or said == b"+":
            said = self._answer_to(b64encode(login.answer(_challenge(said))))
        if not said.startswith(b"+OK"):
            raise poplib.error_proto(said)

    def _answer_to(self, line: bytes) -> bytes:
        self.sock.sendall(line + b"\r\n")
        return self._getline()[0]


class Pop3Reader:
    """An open mailbox, logged in. Raises MailboxFailed and, from the start, MailboxRefused."""

    sees_arrivals = False

    def __init__(
        self, line: socket.socket, host: str, port: int, starttls: ssl.SSLContext | None, login: Credentials
    ) -> None:
        self._client = _Client(line, host, port)
        try:
            if starttls is not None:
                self._client.stls(starttls)
            self._log_in(login)
            self._numbers = self._unique_ids()
        except BaseException:
            self.drop()
            raise

    def folders(self) -> tuple[Folder, ...]:
        """Return the inbox: POP3 shows no other."""
        return (INBOX,)

    def position(self, folder: Folder) -> str:  # noqa: ARG002 - there is one
        """Return the unique ids of the last mails, one a line."""
        return "\n".join(list(self._numbers)[-_REMEMBERED:])

    def arrivals(self, folder: Folder, position: str) -> Arrivals:  # noqa: ARG002 - there is one
        """Return what stands behind the last mail that was known; all, where none of those is there any more."""
        known = position.split("\n") if position else []
        last = max((self._numbers.get(uid, 0) for uid in known), default=0)
        new = [uid for uid, number in self._numbers.items() if number > last][:MOST_NEW]
        heads = tuple(Head(uid, self._top(uid, 0)[:MOST_HEADER]) for uid in new)
        return Arrivals(heads, "\n".join([*known, *new][-_REMEMBERED:]))

    def content(self, folder: Folder, uid: str, octets: int) -> bytes:  # noqa: ARG002 - there is one folder
        """Return the header and as many lines as these octets mostly are."""
        return self._top(uid, octets // _OCTETS_OF_A_LINE)[:octets]

    def remove(self, folder: Folder, uid: str) -> bool:  # noqa: ARG002 - there is one folder
        """Delete one mail; it is gone with the good-bye."""
        self._client.dele(self._numbers[uid])
        return True

    def leave(self) -> None:
        """Say good-bye."""
        self._client.quit()

    def drop(self) -> None:
        """Close the connection at once."""
        try:
            self._client.close()
        except OSError:
            return

    def _log_in(self, login: Credentials) -> None:
        token = TokenLogin(login, self._client.capa().get("SASL", [])) if login.is_token else None
        try:
            if token is not None:
                self._client.authenticate(token)
            else:
                self._client.user(login.username)
                self._client.pass_(login.secret)
        except poplib.error_proto as error:
            if "[IN-USE]" in str(error) or "[SYS/TEMP]" in str(error) or "[LOGIN-DELAY]" in str(error):
                raise MailboxFailed(f"the server is busy with this mailbox: {_said(error)}") from None
            if token is not None:
                raise token.refused(_said(error)) from None
            raise MailboxRefused(f"the login as {login.username} was refused: {_said(error)}") from None

    def _unique_ids(self) -> dict[str, int]:
        """Return the number of each mail by its unique id, in the order of the mailbox."""
        found: dict[str, int] = {}
        for line in self._client.uidl()[1]:
            number, _, uid = line.decode("ascii", "replace").partition(" ")
            if number.isdecimal():
                found[uid.strip()] = int(number)
        return found

    def _top(self, uid: str, lines: int) -> bytes:
        number = self._numbers.get(uid)
        return b"\r\n".join(self._client.top(number, lines)[1]) + b"\r\n" if number is not None else b""


def _challenge(line: bytes) -> bytes:
    """Return the octets of a challenge, b"" where it is none."""
    try:
        return b64decode(line[1:].strip(), validate=True)
    except ValueError:
        return b""


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
