"""A mailbox by IMAP (RFC 9051 and 3501), on the standard library's imaplib.

It blocks, but it brings nothing along, and knows POP3 beside it: the asyncio library for IMAP is under the GPL and
does not.
SECURITY: what a server may make us hold in memory is bounded. imaplib's debug log, which shows passwords, stays off.
"""

import imaplib
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

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
    is_junk_name,
)
from relay.incoming.token_login import TokenLogin

_MOST_OCTETS = 4 * 1024 * 1024
_LISTED = re.compile(rb'\(([^)]*)\) (?:"(?:\\.|[^"\\])*"|NIL) (?:"((?:\\.|[^"\\])*)"|([^\s"]+))')
_NUMBERS = re.compile(rb"(UIDNEXT|UIDVALIDITY) (\d{1,20})", re.IGNORECASE)
_PRINTABLE = re.compile(rb"[ -~]{1,500}")


class _Client(imaplib.IMAP4):
    """imaplib on a line that is connected already, with a bound for what one answer may hold."""

    def __init__(self, line: socket.socket, host: str, port: int) -> None:
        self._line = line
        super().__init__(host, port)

    def _create_socket(self, timeout: float | None = None) -> socket.socket:  # noqa: ARG002 - imaplib's own name
        return self._line

    def read(self, size: int) -> bytes:
        """Return so many octets. An answer that is too long ends the connection."""
        if size > _MOST_OCTETS:
            raise self.abort(f"an answer of {size} octets is too long")
        return super().read(size)


class ImapReader:
    """An open mailbox, logged in. Raises MailboxFailed and, from the start, MailboxRefused."""

    sees_arrivals = True

    def __init__(
        self, line: socket.socket, host: str, port: int, starttls: ssl.SSLContext | None, login: Credentials
    ) -> None:
        self._client = _Client(line, host, port)
        try:
            if starttls is not None:
                self._client.starttls(starttls)
            self._log_in(login)
            # A server may offer more to whom it knows; imaplib asks before the login alone.
            offers = self._ask("CAPABILITY", *self._client.capability())
            self._can_expunge_one = b"UIDPLUS" in (offers[-1] or b"").upper().split()
        except BaseException:
            self.drop()
            raise

    def folders(self) -> tuple[Folder, ...]:
        """Return the inbox, and the junk folder: the one with the attribute \\Junk (RFC 6154), else by its name."""
        listed = list(_listed(self._ask("LIST", *self._client.list())))
        by_use = [name for flags, name in listed if b"\\junk" in flags.lower().split()]
        by_name = [name for flags, name in listed if is_junk_name(name) and b"\\noselect" not in flags.lower().split()]
        return (INBOX, *[Folder(name, is_junk=True) for name in (by_use or by_name)[:1]])

    def position(self, folder: Folder) -> str:
        """Return UIDVALIDITY and UIDNEXT."""
        answer = b" ".join(
            line
            for line in self._ask("STATUS", *self._client.status(_quoted(folder.name), "(UIDNEXT UIDVALIDITY)"))
            if isinstance(line, bytes)
        )
        found = {name.upper(): int(number) for name, number in _NUMBERS.findall(answer)}
        if len(found) != 2:
            raise MailboxFailed(f"the folder {folder.name} does not say how far it is filled")
        return f"{found[b'UIDVALIDITY']} {found[b'UIDNEXT']}"

    def arrivals(self, folder: Folder, position: str) -> Arrivals:
        """Return what has a UID from the position on; nothing where the folder is another since (UIDVALIDITY)."""
        now = self.position(folder)
        validity, _, first = position.partition(" ")
        if now.partition(" ")[0] != validity or now == position or not first.isdecimal():
            return Arrivals((), now)
        self._examine(folder)
        # "*" is the last one even where that is older than the first that was asked for.
        found = self._ask("SEARCH", *self._client.uid("SEARCH", "UID", f"{first}:*"))
        uids = sorted(uid for uid in map(int, (found[0] or b"").split()) if uid >= int(first))
        taken = uids[:MOST_NEW]
        heads = tuple(Head(str(uid), self._fetch(uid, f"BODY.PEEK[HEADER]<0.{MOST_HEADER}>")) for uid in taken)
        return Arrivals(heads, f"{validity} {taken[-1] + 1}" if len(uids) > len(taken) else now)

    def content(self, folder: Folder, uid: str, octets: int) -> bytes:
        """Return the first octets of a mail."""
        self._examine(folder)
        return self._fetch(int(uid), f"BODY.PEEK[]<0.{octets}>")

    def remove(self, folder: Folder, uid: str) -> bool:
        """Delete one mail. Without UIDPLUS (RFC 4315) it is only marked: an EXPUNGE would take others' along."""
        self._ask("SELECT", *self._client.select(_quoted(folder.name)))
        self._ask("STORE", *self._client.uid("STORE", uid, "+FLAGS.SILENT", "(\\Deleted)"))
        if not self._can_expunge_one:
            return False
        self._ask("EXPUNGE", *self._client.uid("EXPUNGE", uid))
        return True

    def leave(self) -> None:
        """Say good-bye."""
        self._client.logout()

    def drop(self) -> None:
        """Close the connection at once."""
        try:
            self._client.shutdown()
        except OSError:
            return

    def _log_in(self, login: Credentials) -> None:
        if login.is_token:
            self._log_in_by_token(login)
        else:
            self._log_in_by_password(login.username, login.secret)

    def _log_in_by_token(self, login: Credentials) -> None:
        token = TokenLogin(login, [name.removeprefix("AUTH=") for name in self._client.capabilities])
        try:
            self._client.authenticate(token.mechanism, token.answer)
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as error:
            raise token.refused(_said(error)) from None

    def _log_in_by_password(self, username: str, password: str) -> None:
        offers = self._client.capabilities
        try:
            if "AUTH=PLAIN" in offers:
                answer = f"\0{username}\0{password}".encode()
                self._client.authenticate("PLAIN", lambda _: answer)
            elif "LOGINDISABLED" in offers:
                raise MailboxRefused("the server offers no login that we know (AUTH=PLAIN or LOGIN)")
            else:
                self._client.login(username, password)
        except UnicodeEncodeError:
            raise MailboxRefused("this server takes only ASCII letters in a password") from None
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as error:
            raise MailboxRefused(f"the login as {username} was refused: {_said(error)}") from None

    def _examine(self, folder: Folder) -> None:
        self._ask("EXAMINE", *self._client.select(_quoted(folder.name), readonly=True))

    def _fetch(self, uid: int, what: str) -> bytes:
        found = self._ask("FETCH", *self._client.uid("FETCH", str(uid), f"({what})"))
        return next((part[1] for part in found if isinstance(part, tuple)), b"")

    @staticmethod
    def _ask(what: str, status: str, answer: list[Any]) -> list[Any]:
        if status != "OK":
            said = answer[0].decode(errors="replace") if answer and isinstance(answer[0], bytes) else status
            raise MailboxFailed(f"the server refused {what}: {said}")
        return answer


def _said(error: Exception) -> str:
    """Return the server's words: imaplib gives them as bytes."""
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _listed(lines: list[Any]) -> Iterator[tuple[bytes, str]]:
    """Yield attributes and name of each folder; names that are sent as literals or hold controls are left out."""
    for line in lines:
        match = _LISTED.fullmatch(line.strip()) if isinstance(line, bytes) else None
        if match is not None:
            name = re.sub(rb"\\(.)", rb"\1", match[2]) if match[2] is not None else match[3]
            if _PRINTABLE.fullmatch(name):
                yield match[1], name.decode("ascii")


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
