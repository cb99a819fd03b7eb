"""Returned mail: the report that a mail system sent because it could not deliver a message of ours.

Reports in the form of RFC 3464 and 6533 (Postfix, Exchange, Gmail, Exim of today) are read by their fields, the others
by their text (`bounce_text`: qmail, older Exim, sendmail, Postfix, Exchange and Gmail).
SECURITY: anyone can write such a report who knows a Message-ID and a recipient. It is a claim that is worth showing
to a person, and no ground to act on. Any bytes can be read; what is no report gives None.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.mail.bounce_text import copies_in_text, may_be_report
from relay.mail.parts import Fields, Part, blocks_of, value_of
from relay.mail.returned_copy import ReturnedCopy, status_in, words_of

# As much as is looked at: what reports say stands in front, and the message that they return behind it.
MOST_OCTETS = 256 * 1024

_MOST_COPIES = 100
_MOST_IDS = 10
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,990}>")
_ID_LINE = re.compile(r"^[> \t]*Message-ID:[ \t]*(?:\n[ \t]+)?(<[^<>\s]{1,990}>)", re.IGNORECASE | re.MULTILINE)
_STATUS_PARTS = frozenset({"message/delivery-status", "message/global-delivery-status"})
_ORIGINALS = frozenset({"message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"})


@dataclass(frozen=True, slots=True)
class Bounce:
    """One report: who did not get the message, and by which Message-IDs ("<…>", the surest first) it may be known."""

    message_ids: tuple[str, ...]
    copies: tuple[ReturnedCopy, ...]


def may_be_bounce(header: bytes) -> bool:
    """Whether a mail with this header is worth reading as a report: most mail in a mailbox is none."""
    fields = Part.parse(header).fields
    return value_of(fields, "content-type").lower().startswith("multipart/report") or may_be_report(fields)


def read_bounce(raw: bytes) -> Bounce | None:
    """Return what a mail says about a message that came back; None where it is no such report. Never raises."""
    message = Part.parse(raw[:MOST_OCTETS])
    leaves = message.leaves
    statuses = [leaf for leaf in leaves if leaf.kind in _STATUS_PARTS]
    if statuses:
        copies = [copy for leaf in statuses for copy in _copies(blocks_of(leaf.text))]
    else:
        copies = list(copies_in_text(message.fields, _human_text(leaves)))
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
        words = words_of(_typed(value_of(group, "diagnostic-code")))
        reporter = _typed(value_of(per_message, "reporting-mta")) or _typed(value_of(group, "remote-mta"))
        status = status_in(value_of(group, "status")) or status_in(words) or "5.0.0"
        yield ReturnedCopy(addresses, status, words, words_of(reporter))


def _typed(value: str) -> str:
    """Return what follows the type of a field such as "rfc822; ann@customer.example", without a comment behind it."""
    address_type, semicolon, rest = value.partition(";")
    return (rest if semicolon else address_type).strip().removeprefix("<").removesuffix(">")


def _human_text(leaves: Sequence[Part]) -> str:
    """Return the text for people; HTML only where there is nothing else."""
    texts = [leaf.text for leaf in leaves if leaf.kind == "text/plain"]
    return "\n".join(texts) or "\n".join(_TAG.sub(" ", leaf.text) for leaf in leaves if leaf.kind == "text/html")


_TAG = re.compile(r"<[/!a-z][^<>]{0,2000}>", re.IGNORECASE)


def _message_ids(message: Part, leaves: Sequence[Part]) -> Iterator[str]:
    """Yield the Message-IDs by which the returned message may be known: its own header first, what answers it last."""
    for leaf in leaves:
        if leaf.kind in _ORIGINALS:
            yield from _MESSAGE_ID.findall(Part.parse(leaf.content.lstrip(b"\r\n")).get("message-id"))
    for leaf in leaves:
        if leaf.kind.startswith("text/"):
            yield from (match[1] for match in _ID_LINE.finditer(leaf.text))
    for key in ("x-original-message-id", "in-reply-to", "references"):
        yield from reversed(_MESSAGE_ID.findall(message.get(key)))
