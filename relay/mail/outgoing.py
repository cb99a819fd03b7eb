"""Puts a message together as it leaves: script, identity, what is missing, what must not travel, Received on top.

Pure and repeatable: from one stored message and one route it makes the same bytes at every attempt.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.mail.folding import MOST_OCTETS, fold_long_lines
from relay.mail.header import Change, Edited, Header, HeaderEdit, KeptChanges, change_of, has_value, kept
from relay.mail.identity import Alignment, align_fields
from relay.mail.script import Script, apply_script
from relay.mail.signature import SIGNATURES, remove_broken_signatures
from relay.mail.trace import Arrival, check_loop, format_date, message_id, received_field
from relay.mail.words import fold


class Outgoing(NamedTuple):
    """The message as it leaves, what was done to its header, and the Message-ID that it bears.

    The Received field is no change in that sense.
    """

    content: Content
    edited: Sequence[Edited]
    message_id: str

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was changed, in words."""
        return tuple(map(change_of, self.edited))

    @property
    def kept(self) -> KeptChanges:
        """What was changed, as it is kept and shown."""
        return kept(self.changes)


def compose(
    content: Content,
    header: Header,
    *,
    arrival: Arrival,
    recipients: Sequence[Recipient],
    alignment: Alignment,
    script: Script | None,
) -> Outgoing:
    """Return the message that leaves. `header` is that of `content`; the body stays the same bytes.

    Raises ContentRefused: a loop, a From that may not be, or a line of the header that is too long and cannot be
    folded.
    """
    named = header.named
    if "received" in named:
        check_loop(header, arrival.hostname)
    edit = HeaderEdit(header)
    if script is not None:
        apply_script(edit, script)
    scripted, edit.done = edit.done, []
    align_fields(edit, alignment)
    # Date and Message-ID are added where they are missing or empty (RFC 6409 sections 8.2 and 8.3).
    if "date" not in named or not has_value(named["date"]):
        edit.put("date", fold("Date", format_date(arrival.received_at)))
    if "message-id" in named and has_value(named["message-id"]):
        unique = header.text_of("message-id")
    else:
        # Not the identity's domain where there is a sender: another server may be chosen before the next attempt.
        unique = message_id(arrival.id, alignment.sender or alignment.identity)
        edit.put("message-id", fold("Message-ID", unique))
    # The identity first: where there are many changes, the last ones are not kept.
    edited = edit.done + scripted
    raws: Iterable[bytes] = edit.raws
    if max(map(len, raws)) > MOST_OCTETS or not SIGNATURES.isdisjoint(edit.named):
        folded, long_ones = fold_long_lines(edit.header)
        signed, broken = remove_broken_signatures(folded, {one.key for one in (*edited, *long_ones)})
        edited += [*long_ones, *broken]
        raws = signed.raws
    top = received_field(arrival, recipients)
    return Outgoing(Content(b"".join((top, *raws)), content.body), edited, unique)
