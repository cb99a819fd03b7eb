"""Reports to a sender about a message: failed, delayed or delivered, as multipart/report (RFC 6522, RFC 3464).

A report has three parts: text for people (what happened, to whom, in the server's own words, and what they can do),
fields for programs (message/delivery-status, with UTF-8 by RFC 6533), and the header of the reported message or all of
it. It leaves with a null envelope sender and Auto-Submitted (RFC 3834), so that nothing answers it, and is plain ASCII
wherever it can be: a report that the next server cannot take is lost.

SECURITY: the replies of servers and the header of the message are hostile text. None of it stands in the report's own
header but a Message-ID of strict form, and none of it can hold the boundary. In the text and the fields each value
becomes one line of printable text before it is folded, and an address was checked when it became one.
"""

import binascii
import contextlib
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from types import MappingProxyType

from relay.mail.address import AddressError, domain_key
from relay.mail.content import Content, ContentRefused
from relay.mail.dsn_parameters import Return, decode_xtext
from relay.mail.encoded_words import decode_words, fold
from relay.mail.header import Field, Header
from relay.mail.mailbox import Mailbox
from relay.mail.report_facts import Action, RecipientFacts, ReportFacts, ReportKind, who_wants
from relay.mail.trace import format_date, message_id

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
    yield Field.make("Subject", _subject(facts))
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
    return _Part("text/plain; charset=utf-8", _text(facts).replace("\n", "\r\n").encode())


def _status_part(facts: ReportFacts) -> _Part:
    media_type = "message/global-delivery-status" if facts.needs_utf8 else "message/delivery-status"
    return _Part(media_type, _status_block(facts), is_eight_bit=not _is_narrow(facts))


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
    is_wanted = facts.kind is ReportKind.FAILED and facts.envelope.ret is Return.FULL and not facts.envelope.require_tls
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


# The part that programs read.

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9.\-_:\[\]]")
_MOST_NAME = 255
# What would end a line or turn its letters around: controls, line separators, writing directions.
_UNSEEN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_MOST_TEXT = 2000
# RFC 5322 section 2.1.1: a line is at most 998 octets, and folding needs spaces. A character has up to 4 octets.
_LONG_WORD = re.compile(r"[^ ]{200}(?=[^ ])")


def _status_block(facts: ReportFacts) -> bytes:
    """Return the fields about the message and then those about each recipient, in groups with an empty line between.

    It is ASCII unless `facts.needs_utf8`.
    """
    groups = [_message_fields(facts), *(_recipient_fields(each, facts) for each in facts.recipients)]
    return b"\r\n".join(b"".join(fold(name, value) for name, value in group) for group in groups)


def _one_line(text: str, most: int = _MOST_TEXT) -> str:
    """Return foreign text as one printable line: at most `most` characters and "...", endless words broken."""
    words = " ".join(_UNSEEN.sub(" ", text).split())
    shown = words if len(words) <= most else words[:most] + "..."
    return _LONG_WORD.sub(r"\g<0> ", shown)


def _host_name(name: str) -> str:
    """Return a host's name or IP address in ASCII, without anything that is not of a name."""
    # An IPv6 address is no domain, nor may this text be anything that we know: what it holds is cleaned below.
    with contextlib.suppress(AddressError):
        name = domain_key(name)
    return _NOT_A_NAME.sub("?", name[:_MOST_NAME]) or "unknown"


def _message_fields(facts: ReportFacts) -> Iterator[tuple[str, str]]:
    envid = decode_xtext(facts.envelope.envid).strip() if facts.envelope.envid else ""
    if envid:
        yield "Original-Envelope-Id", envid
    yield "Reporting-MTA", f"dns; {_host_name(facts.reporting_mta)}"
    yield "Arrival-Date", format_date(facts.arrival)


def _recipient_fields(each: RecipientFacts, facts: ReportFacts) -> Iterator[tuple[str, str]]:
    recipient = each.recipient
    if recipient.original is not None:
        yield "Original-Recipient", f"{recipient.original.address_type}; {recipient.original.address.strip()}"
    yield "Final-Recipient", f"{'rfc822' if recipient.address.is_ascii else 'utf-8'}; {recipient.address}"
    yield "Action", each.action.value
    yield "Status", each.status
    if each.remote_mta:
        yield "Remote-MTA", f"dns; {_host_name(each.remote_mta)}"
    if each.reply is not None:
        yield "Diagnostic-Code", _diagnostic(each, facts)
    if each.last_attempt is not None:
        yield "Last-Attempt-Date", format_date(each.last_attempt)
    if each.will_retry_until is not None and facts.kind is ReportKind.DELAYED:
        yield "Will-Retry-Until", format_date(each.will_retry_until)


def _diagnostic(each: RecipientFacts, facts: ReportFacts) -> str:
    # RFC 3464 section 2.3.6: the type "smtp" is for a server's own reply, and private types begin with "X-".
    text = f"{'smtp' if each.remote_mta else 'X-Relay'}; {_one_line(str(each.reply))}"
    return text if facts.needs_utf8 else text.encode("ascii", "replace").decode("ascii")


# The part that people read.

_WIDTH = 72
_MOST_SUBJECT = 200
_UNBROKEN = "\N{NO-BREAK SPACE}"  # keeps a code on one line
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_ASK = "show this message to the person who looks after your mail."
_UNREACHED = f"Send it again later. If it fails again, {_ASK}"
# By subject and detail of the enhanced code (RFC 3463 section 3), or by subject alone.
_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "1": "Check the address for typing mistakes. If it is right, the mailbox may no longer exist: ask the person"
        " for another address.",
        "1.7": _ASK.capitalize(),
        "1.8": _ASK.capitalize(),
        "2": "Reach the person in another way, or send the message again later.",
        "2.2": "The mailbox is full. Reach the person in another way, or send the message again later.",
        "2.3": "The message is too large. Send a smaller one, for instance with a link instead of the attachment.",
        "3": _UNREACHED,
        "3.4": "The message is too large. Send a smaller one, for instance with a link instead of the attachment.",
        "4": _UNREACHED,
        "6": "Send it again in a simpler form, for instance as plain text without attachments.",
        "6.7": "The mail server takes no addresses with letters beyond a to z. Ask the person for another address.",
        "7.30": "You asked that this message travels by encrypted connections only, and the outgoing mail server cannot"
        f" promise that. Send it without that wish if it may travel otherwise, or {_ASK}",
        "7": f"The mail server refuses this message by its rules. Its words above say why; {_ASK}",
    }
)


def _subject(facts: ReportFacts) -> str:
    """Return the report's subject. It holds nothing that others wrote."""
    if facts.kind is ReportKind.FAILED:
        return "Your message could not be delivered"
    if facts.kind is ReportKind.DELAYED:
        return "Your message is delayed"
    return "Your message was passed on" if _is_relayed(facts) else "Your message was delivered"


def _text(facts: ReportFacts) -> str:
    """Return the text with LF line ends, at most 72 characters wide where words allow that."""
    paragraphs = [
        _wrapped(_opening(facts)),
        *_original(facts),
        *(paragraph for group in _groups(facts.recipients) for paragraph in _group(group, facts)),
        _wrapped(
            f"This message was written by the mail service on {_host_name(facts.reporting_mta)}. Please do not answer"
            " it. What is attached helps the person who looks after your mail."
        ),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _opening(facts: ReportFacts) -> str:
    count = len(facts.recipients)
    whom = str(facts.recipients[0].recipient.address) if count == 1 else f"{count} addresses, which are named below"
    if facts.kind is ReportKind.FAILED:
        return f"Your message could not be delivered to {whom}."
    if facts.kind is ReportKind.DELAYED:
        again = "You do not need to send it again: the mail service goes on trying."
        return f"Your message has not yet reached {whom}. {again}"
    if _is_relayed(facts):
        last = "That server confirms no deliveries, so this is the last confirmation that you get."
        return f"Your message to {whom} was accepted by the next mail server. {last}"
    return f"Your message was delivered to {whom}."


def _original(facts: ReportFacts) -> Iterator[str]:
    """Say which message it was."""
    try:
        fields = Header.parse(facts.header).get_all("subject")
    except ContentRefused:
        fields = ()
    title = _one_line(decode_words(fields[0].text), _MOST_SUBJECT) if fields else ""
    subject_line = _wrapped(f"Subject: {title}", 4) + "\n" if title else ""
    yield f"{subject_line}    Sent: {_moment(facts.arrival)}"


def _groups(recipients: Sequence[RecipientFacts]) -> Iterator[list[RecipientFacts]]:
    """Put together what happened alike, so that many recipients make no endless text."""
    groups: dict[tuple[object, ...], list[RecipientFacts]] = {}
    for each in recipients:
        wants_failure = who_wants(ReportKind.FAILED, each.recipient.notify)
        alike = (each.action, each.status, each.reply, each.remote_mta, each.will_retry_until, wants_failure)
        groups.setdefault(alike, []).append(each)
    yield from groups.values()


def _group(group: Sequence[RecipientFacts], facts: ReportFacts) -> Iterator[str]:
    first = group[0]
    if len(facts.recipients) > 1:
        yield "\n".join(str(each.recipient.address) for each in group)
    yield from _answer(first)
    if facts.kind is ReportKind.FAILED:
        if first.status.startswith("4"):
            yield _wrapped("It was tried several times without success, and is not tried again.", 4)
        yield _wrapped(f"What you can do: {_advice(first.status)}", 4)
    if facts.kind is ReportKind.DELAYED and first.will_retry_until is not None:
        told = " If that fails, you are told." if who_wants(ReportKind.FAILED, first.recipient.notify) else ""
        yield _wrapped(f"It is tried again until {_moment(first.will_retry_until)}.{told}", 4)


def _answer(each: RecipientFacts) -> Iterator[str]:
    """Give the server's own words, always indented: they must not look like ours."""
    if each.reply is None:
        return
    code = f"{each.reply.code} {each.reply.enhanced}".strip().replace(" ", _UNBROKEN)
    words = f'"{_one_line(each.reply.text)}" ({code})' if each.reply.text else f"({code})"
    speaker = f"The mail server {_host_name(each.remote_mta)} said:" if each.remote_mta else "The reason:"
    yield f"{_wrapped(speaker, 4)}\n{_wrapped(words, 8)}".replace(_UNBROKEN, " ")


def _advice(status: str) -> str:
    detail = status.partition(".")[2]
    return _ADVICE.get(detail) or _ADVICE.get(detail.partition(".")[0]) or _ASK.capitalize()


def _is_relayed(facts: ReportFacts) -> bool:
    return any(each.action is Action.RELAYED for each in facts.recipients)


def _moment(moment: datetime) -> str:
    at = moment.astimezone(UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M} UTC"


def _wrapped(words: str, indent: int = 0) -> str:
    space = " " * indent
    return textwrap.fill(
        words, _WIDTH, initial_indent=space, subsequent_indent=space, break_long_words=False, break_on_hyphens=False
    )
