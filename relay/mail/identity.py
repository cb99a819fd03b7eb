"""Makes a header bear the identity that its mail leaves with (DESIGN section 2, "Identity, in full").

SECURITY: the account that logs in, the envelope sender and From are one identity here. What leaves holds exactly one
From field with exactly one mailbox, and never an address that the client may not use.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from relay.mail.address import Address
from relay.mail.change import Change, changes_between
from relay.mail.content import ContentRefused
from relay.mail.header import Field, Header
from relay.mail.mailbox import Mailbox, MailboxFault, names_other_address, parse_from
from relay.mail.reply import Reply, clean_text

__all__ = ["Alignment", "Change", "Mismatch", "Standing", "align", "from_address"]

_BLANK_LINE = re.compile(rb"\r\n[ \t]+\r\n")


class Mismatch(StrEnum):
    """What happens to a From that is not the sender's own (`from_mismatch`)."""

    REWRITE = "rewrite"
    REJECT = "reject"


class Standing(StrEnum):
    """Whose an address is, seen from one submission."""

    SAME = "same"  # the profile's own: its address, an alias, a tag
    ALLOWED = "allowed"  # another profile's, which this client may send as
    MAIL_SYSTEM = "mail system"  # of a mail server behind us, in its bounce
    NOBODY = "nobody"  # no profile's, and this client may send as anybody
    FORBIDDEN = "forbidden"  # not for this client


@dataclass(frozen=True, slots=True)
class Alignment:
    """What a header is to be made to bear, and what is allowed on the way.

    `reply_to` is the profile's address or the alias that was used, None where that is the identity. `sender` is the
    envelope sender as the client gave it, None for the null sender.
    """

    identity: Address
    reply_to: Address | None
    sender: Address | None
    mismatch: Mismatch
    standing: Callable[[Address], Standing]

    def is_own(self, address: Address) -> bool:
        """Whether an address is the identity or another one of the profile."""
        return address.key == self.identity.key or self.standing(address) is Standing.SAME


def align(header: Header, alignment: Alignment) -> tuple[Header, tuple[Change, ...]]:
    """Return the header with From, Sender and Reply-To as they leave, and what was changed.

    Raises ContentRefused: 550 5.7.1 for a From that may not be, 554 5.6.0 for an unreadable one with "reject".
    """
    aligned = _with_from(header, alignment)
    sender = aligned.get_all("sender")
    if sender and not _is_good_sender(sender, alignment):
        aligned = aligned.without(("sender",))
    aligned = _with_reply_to(aligned, alignment)
    return aligned, changes_between(header, aligned, ("from", "sender", "reply-to"))


def from_address(header: Header) -> Address | None:
    """Return the address of the one unambiguous From mailbox, which routes a null sender; None without such a one."""
    try:
        return _mailbox(header.get_all("from")).address
    except MailboxFault:
        return None


def _with_from(header: Header, alignment: Alignment) -> Header:
    fields = header.get_all("from")
    display = ""
    if fields:
        try:
            mailbox = _mailbox(fields)
        except MailboxFault as fault:
            if alignment.mismatch is Mismatch.REJECT:
                raise ContentRefused(Reply(554, "5.6.0", clean_text(f"From header: {fault}"))) from None
        else:
            _check_from(mailbox.address, alignment)
            display = "" if names_other_address(mailbox.display, alignment.is_own) else mailbox.display
            if mailbox.is_plain and mailbox.address == alignment.identity and display == mailbox.display:
                return header
    return header.with_field(Field.make("From", str(Mailbox(display, alignment.identity))))


def _mailbox(fields: tuple[Field, ...]) -> Mailbox:
    """Return the one mailbox in the one field. Raises MailboxFault."""
    if len(fields) != 1:
        raise MailboxFault(f"there are {len(fields)} of them")
    mailbox = parse_from(fields[0].value)
    # A line of white space only is obsolete folding, and some programs end the header block at it.
    has_blank_line = _BLANK_LINE.search(fields[0].raw) is not None
    return replace(mailbox, is_plain=False) if has_blank_line else mailbox


def _check_from(address: Address, alignment: Alignment) -> None:
    """Refuse a From that the client may not use, or that is not the profile's where a mismatch is refused."""
    if address.key == alignment.identity.key:
        return
    standing = alignment.standing(address)
    # A bounce that is refused is lost, and its From says nothing about whom it claims to be from.
    is_expected = standing in {Standing.SAME, Standing.MAIL_SYSTEM}
    is_mismatch = not is_expected and alignment.mismatch is Mismatch.REJECT
    if is_mismatch or standing is Standing.FORBIDDEN:
        text = f"From header <{address}> does not match the sender <{alignment.sender or ''}>"
        raise ContentRefused(Reply(550, "5.7.1", text))


def _is_good_sender(fields: tuple[Field, ...], alignment: Alignment) -> bool:
    """Whether the Sender field may stay: one, plainly the identity, with a name that shows no other address."""
    try:
        mailbox = _mailbox(fields)
    except MailboxFault:
        return False
    is_identity = mailbox.is_plain and mailbox.address.key == alignment.identity.key
    return is_identity and not names_other_address(mailbox.display, alignment.is_own)


def _with_reply_to(header: Header, alignment: Alignment) -> Header:
    if alignment.reply_to is None or header.has_value("reply-to"):
        return header
    return header.with_field(Field.make("Reply-To", str(alignment.reply_to)))
