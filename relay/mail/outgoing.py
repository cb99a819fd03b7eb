"""Puts a message together as it leaves: script, identity, what is missing, what must not travel, Received on top.

Pure and repeatable: from one stored message and one route it makes the same bytes at every attempt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.mail.change import Change, changes_between
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.mail.folding import fold_long_lines
from relay.mail.header import Field, Header
from relay.mail.identity import Alignment, align
from relay.mail.script import apply_script
from relay.mail.signature import remove_broken_signatures
from relay.mail.trace import Arrival, check_loop, format_date, message_id, received_field

# Bcc would tell the recipients of each other; Return-Path is written by the last server (RFC 5321 section 4.4).
_NEVER_LEAVE = ("bcc", "resent-bcc", "return-path")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The message as it leaves, and what was changed in its header. The Received field is no change in that sense."""

    content: Content
    changes: tuple[Change, ...]


def compose(
    content: Content,
    header: Header,
    *,
    arrival: Arrival,
    recipients: Sequence[Recipient],
    alignment: Alignment,
    script: tuple[Mapping[str, str], Sequence[str]] | None,
) -> Outgoing:
    """Return the message that leaves. `header` is that of `content`; the body stays the same bytes.

    `script` is the fields to set and those to remove. Raises ContentRefused: a loop, a From that may not be, or
    a line of the header that is too long and cannot be folded.
    """
    check_loop(header, arrival.hostname)
    scripted, script_changes = apply_script(header, *script) if script else (header, ())
    aligned, identity_changes = align(scripted, alignment)
    completed = _completed(aligned.without(_NEVER_LEAVE), arrival, alignment)
    other_changes = changes_between(aligned, completed, (*_NEVER_LEAVE, "date", "message-id"))
    folded, folding_changes = fold_long_lines(completed)
    # The identity first: where there are many changes, the last ones are not kept.
    changes = identity_changes + other_changes + script_changes + folding_changes
    signed, signature_changes = remove_broken_signatures(folded, {change.field.lower() for change in changes})
    top = received_field(arrival, recipients)
    return Outgoing(Content(top + bytes(signed), content.body), changes + signature_changes)


def _completed(header: Header, arrival: Arrival, alignment: Alignment) -> Header:
    """Add Date and Message-ID where they are missing or empty (RFC 6409 sections 8.2 and 8.3)."""
    if not header.has_value("date"):
        header = header.with_field(Field.make("Date", format_date(arrival.received_at)))
    if not header.has_value("message-id"):
        # Not the identity's domain where there is a sender: another server may be chosen before the next attempt.
        domain_of = alignment.sender or alignment.identity
        header = header.with_field(Field.make("Message-ID", message_id(arrival.id, domain_of)))
    return header
