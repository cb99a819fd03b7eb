"""The message: read from standard input to its end, and what the service is told about it.

All of it is read before anybody is connected to: a job that writes for hours would else hold a session open until the
service hangs up. A large body goes through a temporary file that has no name.

As with Postfix: -t adds the recipients of To, Cc and Bcc to those on the command line (only those of Resent-To,
Resent-Cc and Resent-Bcc, where there are any), Bcc is removed, local names get the domain of this machine, and a
message without From gets one.
"""

import os
import pwd
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO

from relay.config.endpoint import is_host_name
from relay.config.machine import machine_name
from relay.mail.content import LARGEST_HEADER, ContentRefused
from relay.mail.encoded_words import write_phrase
from relay.mail.header import Field, Header, decode_octets
from relay.mail.structured_fields import ListedAddress, ListFault, parse_address_list
from relay.sendmail.arguments import Arguments
from relay.sendmail.exit_status import NotSent

_PIECE = 64 * 1024
_MOST_IN_MEMORY = 1024 * 1024
# No provider takes half of it; a job that never stops writing shall not fill the disk.
_LARGEST_MESSAGE = 256 * 1024 * 1024
_CRLF = b"\r\n"
# With the white space that no field may have before its colon: the service refuses such a header block, and if it
# ended here instead, a Bcc below it would be read by everybody.
_FIELD_START = re.compile(rb"[!-9;-~]+[ \t]*:")
_MAILBOX_LINE = re.compile(rb">*From ")
# Debian Policy 11.6: what programs write behind the "@" of a local user's address.
_MAIL_NAME = Path("/etc/mailname")
_TO = ("to", "cc", "bcc")
_RESENT_TO = ("resent-to", "resent-cc", "resent-bcc")
_UNSEEN = frozenset({"bcc", "resent-bcc"})
_COMPLETED = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "resent-from", "resent-sender", "resent-to", "resent-cc"}
)


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was written: `header` without the empty line behind it, `body` at its start, `body_size` octets.

    Every line ends with CRLF. No octet was changed but line ends.
    """

    header: bytes
    body: IO[bytes]
    body_size: int
    body_is_ascii: bool


def read_message(stream: IO[bytes], *, dot_ends: bool) -> Message:
    """Read a message with LF or CRLF at its line ends, up to the end of the stream or a line with only a dot.

    The header block ends at the empty line, or where a line is no field and continues none, as with every sendmail.
    Raises NotSent for one that is too large, and OSError.
    """
    lines = _lines(stream, dot_ends=dot_ends)
    header, first = _read_header(lines)
    body = _Body()
    body.write(first)
    for piece in lines:
        body.write(piece)
    return Message(header, body.finish(), body.size, body.is_ascii)


def _lines(stream: IO[bytes], *, dot_ends: bool) -> Iterator[bytes]:
    """Yield each line in pieces of at most 64 KiB, the last one with CRLF."""
    held = b""
    is_start = True
    while part := stream.readline(_PIECE):
        piece = held + part
        held = b""
        if is_start and dot_ends and piece.rstrip(_CRLF) == b"." and len(piece) <= len(".\r\n"):
            return
        is_start = piece.endswith(b"\n")
        if is_start:
            piece = piece[:-1].removesuffix(b"\r") + _CRLF
        elif piece.endswith(b"\r"):
            # Its LF may be the next octet.
            piece, held = piece[:-1], b"\r"
        yield piece
    if not is_start:
        yield _CRLF


def _read_header(lines: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Return the header block, and what was read of the body to find its end."""
    header = bytearray()
    is_start = True
    for piece in lines:
        if is_start:
            if piece == _CRLF:
                return bytes(header), b""
            if not header and _MAILBOX_LINE.match(piece):
                continue
            is_continued = header and piece.startswith((b" ", b"\t"))
            if not is_continued and not _FIELD_START.match(piece):
                return bytes(header), piece
        header += piece
        is_start = piece.endswith(_CRLF)
        if len(header) > LARGEST_HEADER:
            raise NotSent(os.EX_DATAERR, f"the header block is over {LARGEST_HEADER} octets")
    return bytes(header), b""


class _Body:
    """Keeps the body: in memory, and from 1 MiB on in a temporary file."""

    def __init__(self) -> None:
        self.size = 0
        self.is_ascii = True
        self._file: IO[bytes] = BytesIO()

    def write(self, piece: bytes) -> None:
        """Add a piece. Raises NotSent when the message is too large, and OSError."""
        if self.size <= _MOST_IN_MEMORY < self.size + len(piece):
            self._move_to_disk()
        self.size += len(piece)
        if self.size > _LARGEST_MESSAGE:
            raise NotSent(os.EX_DATAERR, f"the message is over {_LARGEST_MESSAGE} octets")
        self.is_ascii = self.is_ascii and piece.isascii()
        self._file.write(piece)

    def finish(self) -> IO[bytes]:
        """Return the body, to be read from its start."""
        self._file.seek(0)
        return self._file

    def _move_to_disk(self) -> None:
        from tempfile import TemporaryFile

        memory = self.finish()
        self._file = TemporaryFile()  # noqa: SIM115  # it lives as long as the process
        self._file.write(memory.read())


@dataclass(frozen=True, slots=True)
class Origin:
    """This user on this machine. What takes time is looked up when it is first needed."""

    user: int
    mail_name: Path = _MAIL_NAME

    @property
    def domain(self) -> str:
        """The domain of local names: from /etc/mailname, else the machine's full name, for which DNS may be asked."""
        return _domain(self.mail_name)

    @property
    def address(self) -> str:
        """The user's own address."""
        return self.complete(_user_name(self.user))

    def complete(self, name: str) -> str:
        """Return a local name with its domain."""
        return f"{name}@{self.domain}"


@cache
def _domain(mail_name: Path) -> str:
    try:
        words = mail_name.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        words = []
    return words[0] if words and is_host_name(words[0]) else machine_name()


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid{user}"


def this_user() -> Origin:
    """Return the user who runs this process."""
    return Origin(os.getuid())


@dataclass(frozen=True, slots=True)
class Handover:
    """Envelope and header block of one message. `sender` is "" for the null sender; the header has CRLF lines."""

    sender: str
    recipients: tuple[str, ...]
    header: bytes

    @property
    def is_ascii(self) -> bool:
        """Whether a service without SMTPUTF8 (RFC 6531) can be told the addresses."""
        return self.sender.isascii() and all(recipient.isascii() for recipient in self.recipients)


def prepare(arguments: Arguments, block: bytes, origin: Origin) -> Handover:
    """Return what goes to the service for a message with this header block.

    Raises NotSent where it names no recipient, or holds what is not an address or no field.
    """
    try:
        header = Header.parse(block)
    except ContentRefused as refusal:
        raise NotSent(os.EX_DATAERR, refusal.reply.text) from None
    recipients = _recipients(arguments, header, origin)
    if not recipients:
        where = "the header names no recipient" if arguments.reads_recipients else "name a recipient, or give -t"
        raise NotSent(os.EX_USAGE, where)
    sender = _sender(arguments, header, origin)
    return Handover(sender, recipients, bytes(_leaving(arguments, header, sender, origin)))


def _recipients(arguments: Arguments, header: Header, origin: Origin) -> tuple[str, ...]:
    """Return each recipient once."""
    found = [_addresses(word, repr(word), origin) for word in arguments.recipients]
    if arguments.reads_recipients:
        fields = _fields(header, _RESENT_TO) or _fields(header, _TO)
        found += [_addresses(field.text, field.name, origin) for field in fields]
    return tuple(dict.fromkeys(address for addresses in found for address in addresses))


def _sender(arguments: Arguments, header: Header, origin: Origin) -> str:
    """Return the sender that was given, else the one address in From, else the user's own."""
    if arguments.sender is not None:
        addresses = _addresses(arguments.sender, "-f", origin) if arguments.sender else [""]
        if len(addresses) != 1:
            raise NotSent(os.EX_USAGE, "-f wants one address")
        return addresses[0]
    fields = header.get_all("from")
    listed = _listed(fields[0]) if len(fields) == 1 else ()
    return _complete(listed[0], origin) if len(listed) == 1 else origin.address


def _leaving(arguments: Arguments, header: Header, sender: str, origin: Origin) -> Header:
    leaving = header.without(_UNSEEN)
    if not leaving.get_all("from"):
        name = decode_octets(os.fsencode(arguments.full_name))
        leaving = leaving.with_field(_from_field(" ".join(name.split()), sender or origin.address))
    return Header(tuple(_completed(field, origin) for field in leaving.fields))


def _from_field(name: str, address: str) -> Field:
    return Field.make("From", f"{write_phrase(name)} <{address}>" if name else address)


def _fields(header: Header, keys: Iterable[str]) -> list[Field]:
    return [field for key in keys for field in header.get_all(key)]


def _addresses(text: str, about: str, origin: Origin) -> list[str]:
    try:
        listed = parse_address_list(decode_octets(os.fsencode(text)))
    except ListFault as fault:
        raise NotSent(os.EX_DATAERR, f"{about}: {fault}") from None
    return [_complete(address, origin) for address in listed]


def _complete(address: ListedAddress, origin: Origin) -> str:
    return address.text if address.has_domain else origin.complete(address.text)


def _listed(field: Field) -> tuple[ListedAddress, ...]:
    try:
        return parse_address_list(field.text)
    except ListFault:
        return ()


def _completed(field: Field, origin: Origin) -> Field:
    """Return the field with a domain behind each local name; a field that cannot be read stays as it is."""
    local = [address for address in _listed(field) if not address.has_domain] if field.key in _COMPLETED else []
    if not local:
        return field
    text = field.text
    for address in reversed(local):
        text = f"{text[: address.end]}@{origin.domain}{text[address.end :]}"
    return Field.make(field.name, text)
