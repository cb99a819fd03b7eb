"""Returned mail: the report that a mail system sent because it could not deliver a message of ours.

Reports in the form of RFC 3464 and 6533 (Postfix, Exchange, Gmail, Exim of today) are read by their fields. The others
are written for people alone (qmail, older Exim, sendmail, Postfix, Exchange and Gmail): what tells one is who sent it
(nobody, or the mail system itself) together with what it says. Each product lays its text out differently, and yet all
put a recipient first on a line and the reason behind it.
SECURITY: anyone can write such a report who knows a Message-ID and a recipient. It is a claim that is worth showing
to a person, and no ground to act on. Any bytes can be read; what is no report gives None.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.mail.address import Address, AddressError
from relay.mail.mime import Fields, MimePart, blocks_of, value_of
from relay.mail.reply import clean_text

# As much as is looked at: what reports say stands in front, and the message that they return behind it.
MOST_OCTETS = 256 * 1024

_MOST_COPIES = 100
_MOST_IDS = 10
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,990}>")
_ID_LINE = re.compile(r"^[> \t]*Message-ID:[ \t]*(?:\n[ \t]+)?(<[^<>\s]{1,990}>)", re.IGNORECASE | re.MULTILINE)
_TAG = re.compile(r"<[/!a-z][^<>]{0,2000}>", re.IGNORECASE)
_STATUS_PARTS = frozenset({"message/delivery-status", "message/global-delivery-status"})
_ORIGINALS = frozenset({"message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"})
_MOST_CHARACTERS = 500
# RFC 3463, but no part of an IP address or of a version.
_ENHANCED = re.compile(r"(?<![\d.])([45]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)")
_CODE = re.compile(r"(?<![\d.])([45])\d\d(?=[ \-,:;'\"]|$)")


@dataclass(frozen=True, slots=True)
class ReturnedCopy:
    """Who did not get it, and why.

    `addresses` are the names of one recipient: as we gave it first, as it was found last. `status` is an enhanced code
    (RFC 3463), `words` what the server said on one line, `reporter` the mail system that sent the report ("" where it
    does not say).
    """

    addresses: tuple[str, ...]
    status: str
    words: str
    reporter: str

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ValueError("a copy that came back was for somebody")


@dataclass(frozen=True, slots=True)
class Bounce:
    """One report: who did not get the message, and by which Message-IDs ("<…>", the surest first) it may be known."""

    message_ids: tuple[str, ...]
    copies: tuple[ReturnedCopy, ...]


def may_be_bounce(header: bytes) -> bool:
    """Whether a mail with this header is worth reading as a report: most mail in a mailbox is none."""
    fields = MimePart.parse(header).fields
    return value_of(fields, "content-type").lower().startswith("multipart/report") or _may_be_report(fields)


def read_bounce(raw: bytes) -> Bounce | None:
    """Return what a mail says about a message that came back; None where it is no such report. Never raises."""
    message = MimePart.parse(raw[:MOST_OCTETS])
    leaves = message.leaves
    statuses = [leaf for leaf in leaves if leaf.kind in _STATUS_PARTS]
    if statuses:
        copies = [copy for leaf in statuses for copy in _copies(blocks_of(leaf.text))]
    else:
        copies = list(_copies_in_text(message.fields, _human_text(leaves)))
    message_ids = tuple(dict.fromkeys(_message_ids(message, leaves)))[:_MOST_IDS]
    return Bounce(message_ids, tuple(copies[:_MOST_COPIES])) if copies and message_ids else None


def _copies(groups: Sequence[Fields]) -> Iterator[ReturnedCopy]:
    """Yield the failed recipients of a delivery status (RFC 3464 section 2): a group each, behind that of the message.

    Only "failed" is over: "delayed" and "relayed" are not, "delivered" and "expanded" are no failure.
    """
    per_message = groups[0] if groups else ()
    for group in groups:
        if value_of(group, "action").partition(" ")[0].lower() != "failed":
            continue
        # The address as we gave it stands first: the final one is another where the recipient forwards.
        named = [_typed(value_of(group, key)) for key in ("original-recipient", "final-recipient")]
        addresses = tuple(dict.fromkeys(address for address in named if "@" in address))
        if not addresses:
            continue
        words = _words_of(_typed(value_of(group, "diagnostic-code")))
        reporter = _typed(value_of(per_message, "reporting-mta")) or _typed(value_of(group, "remote-mta"))
        status = status_in(value_of(group, "status")) or status_in(words) or "5.0.0"
        yield ReturnedCopy(addresses, status, words, _words_of(reporter))


def _typed(value: str) -> str:
    """Return what follows the type of a field such as "rfc822; ann@customer.example", without a comment behind it."""
    address_type, semicolon, rest = value.partition(";")
    return (rest if semicolon else address_type).strip().removeprefix("<").removesuffix(">")


def _human_text(leaves: Sequence[MimePart]) -> str:
    """Return the text for people; HTML only where there is nothing else."""
    texts = [leaf.text for leaf in leaves if leaf.kind == "text/plain"]
    return "\n".join(texts) or "\n".join(_TAG.sub(" ", leaf.text) for leaf in leaves if leaf.kind == "text/html")


def _message_ids(message: MimePart, leaves: Sequence[MimePart]) -> Iterator[str]:
    """Yield the Message-IDs by which the returned message may be known: its own header first, what answers it last."""
    for leaf in leaves:
        if leaf.kind in _ORIGINALS:
            yield from _MESSAGE_ID.findall(MimePart.parse(leaf.content.lstrip(b"\r\n")).get("message-id"))
    for leaf in leaves:
        if leaf.kind.startswith("text/"):
            yield from (match[1] for match in _ID_LINE.finditer(leaf.text))
    for key in ("x-original-message-id", "in-reply-to", "references"):
        yield from reversed(_MESSAGE_ID.findall(message.get(key)))


# Reports that are written for people alone.

_MOST_LINES = 2000
_ADDRESS = r"[^\s<>@\"',;:()\[\]]{1,64}@[A-Za-z0-9._-]{1,190}[A-Za-z0-9]"
# <ann@x>: …  (qmail, Postfix, sendmail) · "  ann@x" alone (Exim, Gmail) · ann@x on Mon, … (Exchange 5.5)
_RECIPIENT = re.compile(
    rf"[ \t]*[<'\"]?({_ADDRESS})[>'\"]?(?:<mailto:[^>\s]*>|\(mailto:[^)\s]*\))?[ \t]*"
    r"(?:$|:[ \t]*(.*)|on [A-Z][a-z]{2}, .*)"
)
_MAIL_SYSTEM = re.compile(r"\b(?:mailer-daemon|mail-daemon|postmaster|mail delivery (?:sub)?system)\b", re.IGNORECASE)
# Below it is the message that came back, which may hold anything.
_ORIGINAL = re.compile(
    r"^[ \t]*-{3,}.*\b(?:original message|copy of (?:the|your) message|headers? follow|message header)\b"
    r"|^[ \t]*Original message headers:",
    re.IGNORECASE | re.MULTILINE,
)
_OVER = re.compile(
    r"could ?n[o']t be delivered|could not be delivered|unable to deliver|not able to deliver|undeliver|"
    r"deliver\w* .{0,60}fail|fail\w* .{0,40}deliver|failed permanently|permanent (?:fatal )?error|permanent failure|"
    r"did not reach|returned to sender|returned mail|failure notice|wasn't delivered|was not delivered",
    re.IGNORECASE,
)
_NOT_OVER = re.compile(
    r"will be re-?tried|still being retried|keep trying|has(?: not yet|n't yet)? been (?:delayed|queued)|"
    r"warning: message|delivery (?:is |has been )?delayed|do not need to resend|not need to (?:do|take) any|\(delay\)",
    re.IGNORECASE,
)
_REASON = re.compile(r"(?<![\d.])[45](?:\d\d[ \-]|\.\d{1,3}\.\d{1,3}(?![\d.]*\d))")


def _may_be_report(fields: Fields) -> bool:
    """Whether a mail system says that it sent this, be it by the sender alone."""
    return bool(value_of(fields, "x-failed-recipients")) or _is_by_a_mail_system(fields)


def _copies_in_text(fields: Fields, text: str) -> Iterator[ReturnedCopy]:
    """Yield the copies that a report without fields says came back; nothing where the mail is no such report."""
    failed = [part.strip(" \t<>") for part in value_of(fields, "x-failed-recipients").split(",")]
    said = _ORIGINAL.split(text, maxsplit=1)[0]
    judged = f"{value_of(fields, 'subject')}\n{said}"
    if not (any(failed) or _is_by_a_mail_system(fields)) or _NOT_OVER.search(judged):
        return
    reasons = _reasons(said)
    if not any(failed) and not _OVER.search(judged):
        return
    by_key = {address.lower(): address for address in [*failed, *reasons] if _is_address(address)}
    if any(failed):
        by_key = {key: by_key[key] for address in failed if (key := address.lower()) in by_key}
    reporter = _reporter(fields)
    for address in by_key.values():
        words = reasons.get(address.lower(), "")
        yield ReturnedCopy((address,), status_in(words) or "5.0.0", words, reporter)


def _is_by_a_mail_system(fields: Fields) -> bool:
    """Whether nobody is to be answered (a null sender, RFC 5321 section 4.5.5), or a mail system gives its name."""
    is_null = value_of(fields, "return-path").replace(" ", "") == "<>"
    return is_null or _MAIL_SYSTEM.search(value_of(fields, "from")) is not None


def _reasons(text: str) -> dict[str, str]:
    """Return what is said behind each recipient, by its address in lower case; with a code before without one."""
    found: dict[str, str] = {}
    lines = text.split("\n")[:_MOST_LINES]
    starts = list(_starts(lines))
    for (start, match), end in zip(starts, [*[number for number, _ in starts[1:]], len(lines)], strict=False):
        key, words = match[1].lower(), _reason([match[2] or "", *lines[start + 1 : end]])
        if key not in found or (status_in(words) and not status_in(found[key])):
            found[key] = words
    return found


def _starts(lines: list[str]) -> Iterator[tuple[int, re.Match[str]]]:
    """Yield the lines with a recipient; not where what is said about one goes on with its address."""
    key = ""
    for number, line in enumerate(lines):
        match = _RECIPIENT.match(line)
        if match is not None and (match[1].lower() != key or not lines[number - 1].strip()):
            key = match[1].lower()
            yield number, match


def _reason(lines: list[str]) -> str:
    """Return the paragraph with a server's code in it, from where the code stands on; else the first paragraph."""
    coded = next((number for number, line in enumerate(lines) if _REASON.search(line)), None)
    if coded is not None:
        code = _REASON.search(lines[coded])
        assert code is not None
        lines = [lines[coded][code.start() :], *lines[coded + 1 :]]
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            break
    return _words_of(" ".join(paragraph))


def _is_address(text: str) -> bool:
    try:
        Address.parse(text)
    except AddressError:
        return False
    return True


def _reporter(fields: Fields) -> str:
    """Return the domain of From, which is the mail system's own."""
    match = re.search(_ADDRESS, value_of(fields, "from"))
    return _words_of(match[0].rpartition("@")[2]) if match else ""


def _words_of(text: str) -> str:
    """Return text as one clean line of at most 500 characters."""
    return " ".join(clean_text(text).split())[:_MOST_CHARACTERS].rstrip()


def status_in(words: str) -> str:
    """Return the enhanced code in a server's words, or X.0.0 by its reply code; "" where there is neither."""
    enhanced = _ENHANCED.search(words)
    if enhanced is not None:
        return enhanced[1]
    code = _CODE.search(words)
    return f"{code[1]}.0.0" if code is not None else ""
