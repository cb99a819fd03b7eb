"""What one mail transaction is, and how it stands on the wire: MAIL and RCPT, and the dot-stuffed message. Pure.

SECURITY: whatever leaves here holds no CR or LF but as line ends. Addresses are clean by their type, and content is
canonical by its own; stuffing looks across the borders of chunks, so that no line can pass for the final dot.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Protocol, TypeAlias

from aiosmtplib.esmtp import parse_esmtp_extensions

from relay.directory.model import Account, Meaning, Server
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.dsn_parameters import Return, mail_parameters
from relay.mail.envelope import Recipient
from relay.mail.reply import Reply
from relay.secrets.secret import Secret
from relay.upstream.outcome import Failed, Outcome, Phase, own_failure

FINAL_DOT = b".\r\n"
"""The line that ends a message. It means that only behind a line's end, where `pieces` leaves off."""

CHUNK_END = b"\r\n"
"""The last octets of a message that goes by BDAT: until they leave, the server has no whole chunk."""

_PIECE = 128 * 1024
_CRLF = b"\r\n"
_CONTROLS = bytes((*range(32), 127))
# To be searched for: `in` takes two to three times as long where there are dots, and replace four times.
_DOT_LINE = re.compile(rb"\r\n\.")
_SIZE_DIGITS = 18
"""An announced SIZE with more digits is nonsense."""
_TOO_LARGE = Reply(552, "5.3.4", "The message is larger than the mail server takes")
_NO_8BITMIME = Reply(554, "5.6.3", "The message has 8-bit content, and the mail server takes only 7-bit")
_NO_UTF8_ADDRESS = Reply(553, "5.6.7", "An address is not ASCII, and the mail server takes only ASCII addresses")
_NO_UTF8_HEADER = Reply(550, "5.6.7", "The header is not ASCII, and the mail server takes only ASCII headers")
_NO_REQUIRETLS = Reply(550, "5.7.30", "REQUIRETLS is not supported by the outgoing mail server")

Gate: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Offers:
    """What EHLO announced: extensions in lower case with their parameters, and the names of AUTH.

    `size` is the largest message the server takes, in octets; 0 where it does not say (RFC 1870 section 4).
    """

    extensions: Mapping[str, str] = field(default_factory=dict)
    mechanisms: tuple[str, ...] = ()
    size: int = 0

    @classmethod
    def parse(cls, text: str) -> "Offers":
        """Return what the lines of an EHLO answer say (RFC 5321 section 4.1.1.1)."""
        extensions, mechanisms = parse_esmtp_extensions(text)
        return cls(extensions, tuple(mechanisms), _size(extensions.get("size", "").strip()))

    def has(self, extension: str) -> bool:
        """Whether an extension was announced, such as "8bitmime"."""
        return extension in self.extensions


class RequireTls(Enum):
    """Whether a server must promise to pass a message on by TLS alone (REQUIRETLS, RFC 8689)."""

    NO = auto()
    WHERE_OFFERED = auto()  # a bounce: rather without the promise than not at all (section 5)
    ALWAYS = auto()


class Coming(Protocol):
    """A message whose end is still to come (`relay.upstream.cut_through`)."""

    header: bytes

    def is_of(self, body: object) -> bool:
        """Whether this is the body that grows here."""

    def end(self) -> None:
        """It is whole."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the whole message as it comes."""


class BegunTransaction(Protocol):
    """A message that is on its way already (`relay.upstream.cut_through`)."""

    def abandon(self) -> None:
        """End it, unless somebody has taken it on."""

    async def finish(self, transfer: "Transfer", progress: "Progress") -> Outcome | None:
        """Take it on, and return what came of it; None where the message has to be handed over anew."""


@dataclass(unsafe_hash=True, slots=True, kw_only=True)
class Transfer:
    """One message for one account. `sender` None is the null sender `<>`.

    `smtputf8` is what the client declared at MAIL. With `all_or_none` nothing is sent once a recipient is refused
    (mode direct); without it the accepted recipients get the message. `ret` and `envid` are what the client gave at
    MAIL (RFC 3461); they and what the recipients carry of it are told to a server that has DSN. `require_tls` is about
    the way behind that server; the way to it is always as the server's own settings say. `cut_through` has begun to
    hand it over already; with `arriving` it is such a beginning, `content` is without its body, and all or none get it.
    `since`: when it came, where an attempt was made before, so that a server that can be asked may have it already.
    """

    server: Server
    account: Account
    secret: Secret | None
    sender: Address | None
    recipients: tuple[Recipient, ...]
    content: Content
    smtputf8: bool = False
    all_or_none: bool = False
    ret: Return | None = None
    envid: str = ""
    require_tls: RequireTls = RequireTls.NO
    arriving: Coming | None = None
    cut_through: BegunTransaction | None = None
    since: datetime | None = None


@dataclass(slots=True)
class Progress:
    """How far a delivery is, for whoever waits for it.

    Until `final_dot_sent` it may be cancelled and nobody has the message; from then on only its outcome decides.

    `before_final_dot`, where it is set, is awaited when all of the message but its final dot has left. It may take as
    long as it likes, may be set as long as `final_dot_sent` is False, and stops the delivery by an exception: the
    connection is closed and nobody has the message.

    `on_mail`, where it is set, is awaited before each MAIL: providers count messages by it. An exception stops the
    delivery as above.
    """

    phase: Phase = Phase.RESOLVE
    final_dot_sent: bool = False
    before_final_dot: Gate | None = None
    on_mail: Gate | None = None

    async def note_mail(self) -> None:
        """MAIL is written when this returns."""
        if self.on_mail is not None:
            await self.on_mail()

    def note_final_dot(self) -> None:
        """The dot is written now. To be called without an await between this and the look at `before_final_dot`."""
        self.phase = Phase.FINAL
        self.final_dot_sent = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long, in seconds, one step may take (RFC 5321 section 4.5.3.2).

    `connect` counts for the TCP connection and again for the TLS handshake, `reply` for the answer to each command,
    `chunk` for each piece of the message to leave, `final` for the answer to the final dot. An unused connection is
    closed after `idle`, and the server may take `quit` to say good-bye.
    """

    connect: float = 30
    reply: float = 300
    chunk: float = 180
    final: float = 600
    idle: float = 30
    quit: float = 5

    def of(self, phase: Phase) -> float:
        """How long a server may be silent in a phase."""
        match phase:
            case Phase.RESOLVE | Phase.CONNECT | Phase.STARTTLS:
                return self.connect
            case Phase.CONTENT:
                return self.chunk
            case Phase.FINAL:
                return self.final
            case _:
                return self.reply


def largest(server: Server, offers: Offers) -> int:
    """Return how large a message the server takes, as it says or the directory does; 0: nobody says."""
    if offers.size and server.message_size:
        return min(offers.size, server.message_size)
    return offers.size or server.message_size


def mail_command(
    transfer: Transfer, offers: Offers, *, is_encrypted: bool, size: int, is_ascii: bool, recipients: str
) -> str:
    """Return MAIL with what it says of the message (RFC 5321 section 4.1.1).

    `size` and `is_ascii` are the content's, `recipients` is what RCPT says of all of them. Raises Failed where the
    server lacks what the message needs.
    """
    extensions, is_arriving = offers.extensions, transfer.arriving is not None  # then nobody knows its size yet
    sender, server = transfer.sender, transfer.server
    line = f"MAIL FROM:<{sender.local}@{sender.domain}>" if sender is not None else "MAIL FROM:<>"
    if 0 < offers.size < size or 0 < server.message_size < size:
        raise _cannot(_TOO_LARGE, f"{size} octets, {largest(server, offers)} is the limit")
    is_plain = not transfer.smtputf8 and (line + recipients).isascii()
    if "size" in extensions and not is_arriving:
        line += f" SIZE={size}"  # RFC 1870 section 6
    if is_arriving or not is_ascii:
        if "8bitmime" not in extensions:
            raise _cannot(_NO_8BITMIME, "no 8BITMIME in EHLO")  # RFC 6152 section 3: never sent silently
        line += " BODY=8BITMIME"
    if not is_plain and (refusing := needs_smtputf8(transfer)) is not None:
        if "smtputf8" not in extensions:
            raise _cannot(refusing, "no SMTPUTF8 in EHLO")
        line += " SMTPUTF8"
    if transfer.require_tls is not RequireTls.NO and _says_requiretls(transfer, offers, is_encrypted=is_encrypted):
        line += " REQUIRETLS"
    if "dsn" in extensions and (transfer.ret or transfer.envid):
        line = " ".join((line, *mail_parameters(transfer.ret, transfer.envid)))
    return line


def rcpt_command(transfer: Transfer, recipient: Recipient, offers: Offers) -> str:
    """Return RCPT, with what the client asked about reports at a server that has DSN (RFC 3461 section 5.2).

    An ORCPT beyond ASCII is said so only where MAIL said SMTPUTF8, and else in its ASCII form (RFC 6533 section 3).
    """
    address, original = recipient.address, recipient.original
    line = f"RCPT TO:<{address.local}@{address.domain}>"  # as it was written (RFC 5321 section 4.1.2)
    if "dsn" not in offers.extensions or (recipient.notify is None and original is None):
        return line
    is_utf8 = original is not None and not original.text.isascii() and needs_smtputf8(transfer) is not None
    return " ".join((line, *recipient.report_parameters(smtputf8=is_utf8)))


def check_lines(lines: bytes, number: int) -> None:
    """Raise ValueError unless these are so many lines. SECURITY: what ends a line early would be one of its own."""
    # Of all control characters there are only those of so many line ends. A tenth of the time of a regular expression.
    if lines.count(_CRLF) != number or len(lines.translate(None, _CONTROLS)) != len(lines) - 2 * number:
        raise ValueError("a command holds a control character")


def joined(content: Content) -> bytes | None:
    """Return a message as one piece, None for one that leaves in several."""
    body = content.body
    if not isinstance(body, tuple) or len(body) > 2:  # chunks have 64 KiB and more, but for the last
        return None
    octets = b"".join((content.header, _CRLF, *body))
    return octets if len(octets) <= _PIECE else None


def stuffed(octets: bytes) -> bytes:
    """Return a message in one piece as DATA wants it (RFC 5321 section 4.5.2), up to where FINAL_DOT goes."""
    if b"." in octets and (octets[:1] == b"." or _DOT_LINE.search(octets)):
        octets = _stuffed(octets, _CRLF)
    return octets if octets[-2:] == _CRLF else octets + _CRLF


def pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Return the message as DATA wants it (RFC 5321 section 4.5.2), up to where FINAL_DOT goes.

    Pieces are of some 64 to 256 KiB, so that one write sends a small message whole and a large one is never copied
    as a whole. There is at least one, if an empty one. A last line without its end gets one.
    """
    gathered: list[bytes] = []
    size = 0
    tail = _CRLF
    for part in _parts(chunks):
        gathered.append(_stuffed(part, tail))
        size += len(part)
        tail = (tail + part[-2:])[-2:]
        if size >= _PIECE // 2:
            yield b"".join(gathered)
            gathered, size = [], 0
    if tail != _CRLF:
        gathered.append(_CRLF)
    yield b"".join(gathered)


async def pieces_as_they_come(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a message as `pieces` does, each chunk for itself."""
    tail = _CRLF
    async for part in chunks:
        yield _stuffed(part, tail)
        tail = (tail + part[-2:])[-2:]
    if tail != _CRLF:
        yield _CRLF


def chunk(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Return the message as the one chunk of a BDAT (RFC 3030 section 2), command first, up to where CHUNK_END goes.

    Pieces are as those of `pieces`. Raises ValueError where the message has not `size` octets or its last line no end:
    the server would take the wrong octets for the message.
    """
    gathered = [b"BDAT %d LAST%s" % (size, _CRLF)]
    total, held, tail = 0, 0, b""
    for part in _parts(chunks):
        total += len(part)
        held += len(part)
        joined_ = tail + part
        gathered.append(joined_[:-2])
        tail = joined_[-2:]
        if total > size:
            break
        if held >= _PIECE // 2:
            yield b"".join(gathered)
            gathered, held = [], 0
    if total != size or tail != CHUNK_END:
        raise ValueError(f"a message of {size} octets has {total}, or ends within a line")
    yield b"".join(gathered)


def needs_smtputf8(transfer: Transfer) -> Reply | None:
    """Return what to say where a server lacks SMTPUTF8 (RFC 6531 sections 3.4 and 3.5), None where none is needed.

    What a client only declared, and the message does not need, is not asked for (section 4.2).
    """
    if transfer.sender is not None and not transfer.sender.is_ascii:
        return _NO_UTF8_ADDRESS
    if not all(recipient.address.is_ascii for recipient in transfer.recipients):
        return _NO_UTF8_ADDRESS
    return _NO_UTF8_HEADER if transfer.smtputf8 and not transfer.content.header.isascii() else None


def _says_requiretls(transfer: Transfer, offers: Offers, *, is_encrypted: bool) -> bool:
    """Whether MAIL says REQUIRETLS. Raises Failed where it must and cannot (RFC 8689 section 4.2.1).

    The header field "TLS-Required: No" (section 3) changes nothing here: it asks to be lenient with the policies that
    domains publish for their own servers. What we demand of our server is the directory's choice, not a message's.
    """
    is_safe = is_encrypted and transfer.server.verify_tls
    if is_safe and "requiretls" in offers.extensions:
        return True
    if transfer.require_tls is RequireTls.ALWAYS:
        raise _cannot(_NO_REQUIRETLS, "no REQUIRETLS in EHLO" if is_safe else "no TLS with a checked certificate")
    return False


def _size(digits: str) -> int:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _SIZE_DIGITS else 0


def _cannot(reply: Reply, detail: str) -> Failed:
    return Failed(own_failure(Phase.MAIL, reply, Meaning.REFUSED, detail))


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for each in chunks:
        if len(each) <= _PIECE:
            yield each
        else:
            yield from (each[start : start + _PIECE] for start in range(0, len(each), _PIECE))


def _stuffed(part: bytes, tail: bytes) -> bytes:
    """Return a part with every dot at the start of a line doubled. `tail` is the two bytes before it.

    Encoded files, the larger part of most mail, have no dot at all, and to look for one octet takes a hundredth of the
    time for three.
    """
    if b"." not in part:
        return part
    stuffed_ = part.replace(b"\r\n.", b"\r\n..") if _DOT_LINE.search(part) else part
    if tail == _CRLF and part.startswith(b"."):
        return b"." + stuffed_
    if tail.endswith(b"\r") and part.startswith(b"\n."):
        return b"\n." + stuffed_[1:]
    return stuffed_
