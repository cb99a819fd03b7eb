"""Reports to a sender about a message: failed, delayed or delivered, as multipart/report (RFC 6522, RFC 3464).

A report has three parts: text for people, fields for programs, and the header of the reported message or all of it.
It leaves with a null envelope sender and Auto-Submitted (RFC 3834), so that nothing answers it, and is plain ASCII
wherever it can be: a report that the next server cannot take is lost.

SECURITY: the replies of servers and the header of the message are hostile text. None of it stands in the report's own
header but a Message-ID of strict form, and none of it can hold the boundary.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from relay.mail.content import Content, ContentRefused
from relay.mail.header import Field, Header
from relay.mail.mailbox import Mailbox
from relay.mail.notify import Return
from relay.mail.report_facts import Action, Kind, RecipientFacts, ReportFacts, may_report, who_wants
from relay.mail.report_fields import status_block
from relay.mail.report_text import subject, text
from relay.mail.trace import format_date, message_id

__all__ = ["Action", "Kind", "RecipientFacts", "ReportFacts", "may_report", "who_wants", "write_report"]

# A message up to this size comes back whole where RET=FULL asks for it.
LARGEST_RETURNED = 1024 * 1024
# RFC 5322 section 2.1.1, in octets without CRLF. A part in 7bit or 8bit holds no longer line (RFC 2045 section 6.2).
_LONG_LINE = re.compile(rb"[^\r\n]{999}")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]{1,400}@[!-;=?A-~]{1,400}>")
# Enhanced code X.6.3: the server takes no 8-bit mail, so it would not take an 8-bit report about that either.
_NO_EIGHT_BIT = ".6.3"


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of the report: its media type with parameters, and its octets in CRLF lines.

    `may_encode` is false for what no transfer encoding may be put around (message/rfc822, RFC 2046 section 5.2.1).
    """

    media_type: str
    octets: bytes
    is_eight_bit: bool = False
    may_encode: bool = True

    @property
    def encoding(self) -> str:
        """The Content-Transfer-Encoding."""
        if not self.may_encode:
            return "7bit" if self.octets.isascii() else "8bit"
        if _LONG_LINE.search(self.octets):
            return "quoted-printable"
        if self.octets.isascii():
            return "7bit"
        return "8bit" if self.is_eight_bit else "quoted-printable"

    @property
    def encoded(self) -> bytes:
        """The octets as they stand in the report."""
        is_quoted = self.encoding == "quoted-printable"
        return binascii.b2a_qp(self.octets, istext=True) if is_quoted else self.octets

    def __bytes__(self) -> bytes:
        head = f"Content-Type: {self.media_type}\r\nContent-Transfer-Encoding: {self.encoding}\r\n\r\n"
        return head.encode("ascii") + self.encoded


def write_report(facts: ReportFacts) -> Content:
    """Return the report. The same facts make the same bytes."""
    parts = (_text_part(facts), _status_part(facts), _original_part(facts))
    written = [bytes(part) for part in parts]
    boundary = _boundary(facts.id, written)
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in written) + b"--%b--\r\n" % boundary
    encoding = "8bit" if any(part.encoding == "8bit" for part in parts) else "7bit"
    fields = (
        *_fields(facts),
        Field.make("MIME-Version", "1.0"),
        Field.make(
            "Content-Type", f'multipart/report; report-type=delivery-status; boundary="{boundary.decode("ascii")}"'
        ),
        Field.make("Content-Transfer-Encoding", encoding),
    )
    return Content(bytes(Header(fields)), (body,))


def _fields(facts: ReportFacts) -> Iterator[Field]:
    yield Field.make("From", str(Mailbox("Mail delivery", facts.identity)))
    yield Field.make("To", str(facts.sender))
    yield Field.make("Subject", subject(facts))
    yield Field.make("Date", format_date(facts.date))
    yield Field.make("Message-ID", message_id(facts.id, facts.identity))
    original = _original_message_id(facts.header)
    if original:
        yield Field.make("In-Reply-To", original)
        yield Field.make("References", original)
    yield Field.make("Auto-Submitted", "auto-replied")


def _original_message_id(header: bytes) -> str:
    try:
        fields = Header.parse(header).get_all("message-id")
    except ContentRefused:
        return ""
    match = _MESSAGE_ID.fullmatch(fields[0].text) if fields else None
    # An encoded word is none in this field, but a reader's program may decode it.
    return match[0] if match and "=?" not in match[0] else ""


def _text_part(facts: ReportFacts) -> _Part:
    return _Part("text/plain; charset=utf-8", text(facts).replace("\n", "\r\n").encode())


def _status_part(facts: ReportFacts) -> _Part:
    media_type = "message/global-delivery-status" if facts.needs_utf8 else "message/delivery-status"
    return _Part(media_type, status_block(facts), is_eight_bit=not _is_narrow(facts))


def _original_part(facts: ReportFacts) -> _Part:
    is_utf8 = facts.needs_utf8 and not facts.header.isascii() and _is_utf8(facts.header)
    whole = _returned(facts)
    if whole:
        return _Part("message/global" if is_utf8 else "message/rfc822", whole, may_encode=False)
    if is_utf8:
        return _Part("message/global-headers", facts.header, is_eight_bit=not _is_narrow(facts))
    if facts.header.isascii():
        return _Part("text/rfc822-headers", facts.header)
    charset = "utf-8" if _is_utf8(facts.header) else "windows-1252"
    return _Part(f"text/rfc822-headers; charset={charset}", facts.header)


def _returned(facts: ReportFacts) -> bytes:
    """Return the whole message where RET=FULL asks for it and it can come back as it is; else nothing.

    RET concerns failures only (RFC 3461 section 4.3). A message that requires TLS never comes back whole: the way back
    may be another (RFC 8689 section 5).
    """
    is_wanted = facts.kind is Kind.FAILED and facts.envelope.ret is Return.FULL and not facts.envelope.require_tls
    if not is_wanted or facts.content is None or facts.content.size > LARGEST_RETURNED:
        return b""
    whole = b"".join(facts.content.chunks())
    is_too_wide = not whole.isascii() and _is_narrow(facts)
    return b"" if is_too_wide or _LONG_LINE.search(whole) else whole


def _is_narrow(facts: ReportFacts) -> bool:
    return any(each.status.endswith(_NO_EIGHT_BIT) for each in facts.recipients)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _boundary(unique: str, parts: list[bytes]) -> bytes:
    """Return a boundary that no part holds (RFC 2046 section 5.1.1). Numbered, because the id alone could be known."""
    candidates = (f"{unique}.{number}".encode("ascii") for number in count(1))
    return next(boundary for boundary in candidates if not any(b"--" + boundary in part for part in parts))
