"""Makes a header bear the identity that its mail leaves with (DESIGN section 2, "Identity, in full").

SECURITY: the account that logs in, the envelope sender and From are one identity here. What leaves holds exactly one
From field with exactly one mailbox, and never an address that the client may not use.
"""

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from relay.mail.address import Address
from relay.mail.content import ContentRefused
from relay.mail.encoded_words import fold
from relay.mail.header import Change, Header, HeaderEdit, change_of, value_of
from relay.mail.mailbox import Mailbox, MailboxFault, names_other_address, parse_from
from relay.mail.reply import Reply, clean_text

_BLANK_LINE = re.compile(rb"\r\n[ \t]+\r\n")
_LONGEST_REMEMBERED = 1024


class Mismatch(StrEnum):
    """What happens to a From that is not the sender's own (`from_mismatch`)."""

    REWRITE = "rewrite"
    REJECT = "reject"


class Ownership(StrEnum):
    """Whose an address is, seen from one submission."""

    SAME = "same"  # the profile's own: its address, an alias, a tag
    ALLOWED = "allowed"  # another profile's, which this client may send as
    MAIL_SYSTEM = "mail system"  # of a mail server behind us, in its bounce
    NOBODY = "nobody"  # no profile's, and this client may send as anybody
    FORBIDDEN = "forbidden"  # not for this client


class Alignment(NamedTuple):
    """What a header is to be made to bear, and what is allowed on the way.

    `reply_to` is the profile's address or the alias that was used, None where that is the identity. `sender` is the
    envelope sender as the client gave it, None for the null sender.
    """

    identity: Address
    reply_to: Address | None
    sender: Address | None
    mismatch: Mismatch
    ownership: Callable[[Address], Ownership]

    def is_own(self, address: Address) -> bool:
        """Whether an address is the identity or another one of the profile."""
        return address.key == self.identity.key or self.ownership(address) is Ownership.SAME


Rule: TypeAlias = Callable[[Sequence[bytes], Alignment], bytes | None]
"""What becomes of the fields of a name, all of which it is given: None leaves them, b"" takes them off, and a field
stands in the place of the first."""


def _from_rule(raws: Sequence[bytes], alignment: Alignment) -> bytes | None:
    """Rule of From: exactly one field with exactly one mailbox leaves, bearing the identity.

    Raises ContentRefused: 550 5.7.1 for a From that may not be, 554 5.6.0 for an unreadable one with "reject".
    """
    display, identity = "", alignment.identity
    if raws:
        try:
            mailbox, is_bare = _mailbox(raws)
        except MailboxFault as fault:
            if alignment.mismatch is Mismatch.REJECT:
                raise ContentRefused(Reply(554, "5.6.0", clean_text(f"From header: {fault}"))) from None
        else:
            is_same = mailbox.is_plain and mailbox.address.text == identity.text
            if is_same and is_bare:
                return None
            _check_from(mailbox.address, alignment)
            is_ours = is_bare or not names_other_address(mailbox.display, alignment.is_own)
            display = mailbox.display if is_ours else ""
            if is_same and display == mailbox.display:
                return None
    return fold("From", str(Mailbox(display, identity)))


def _sender_rule(raws: Sequence[bytes], alignment: Alignment) -> bytes | None:
    """Rule of Sender: it goes, unless it is one, plainly the identity, with a name that shows no other address."""
    try:
        mailbox, is_bare = _mailbox(raws)
    except MailboxFault:
        return b""
    is_identity = mailbox.is_plain and mailbox.address.key == alignment.identity.key
    is_good = is_identity and (is_bare or not names_other_address(mailbox.display, alignment.is_own))
    return None if is_good else b""


def _reply_to_rule(raws: Sequence[bytes], alignment: Alignment) -> bytes | None:
    """Rule of Reply-To: where the identity is not the address that was used, that, unless the message has one."""
    if alignment.reply_to is None or any(map(value_of, raws)):
        return None
    return fold("Reply-To", str(alignment.reply_to))


def _removed(_raws: Sequence[bytes], _alignment: Alignment) -> bytes:
    """Rule of what does not leave."""
    return b""


# Name, rule, and whether the rule has a say where there is no such field. In this order changes are told.
_RULES: tuple[tuple[str, Rule, bool], ...] = (
    ("from", _from_rule, True),
    ("sender", _sender_rule, False),
    ("reply-to", _reply_to_rule, True),
    ("bcc", _removed, False),  # it would tell the recipients of each other
    ("resent-bcc", _removed, False),
    ("return-path", _removed, False),  # the last server writes it (RFC 5321 section 4.4)
)


def align_fields(edit: HeaderEdit, alignment: Alignment) -> None:
    """Decide each field that names who sends or receives. Raises ContentRefused."""
    for key, rule, is_owed in _RULES:
        if key in edit.named:
            ruled = rule(edit.named[key], alignment)
        elif is_owed:
            ruled = rule((), alignment)
        else:
            continue
        if ruled:
            edit.put(key, ruled)
        elif ruled is not None:
            edit.drop(key)


def align(header: Header, alignment: Alignment) -> tuple[Header, tuple[Change, ...]]:
    """Return the header with the fields of people as they leave, and what was changed. Raises ContentRefused."""
    edit = HeaderEdit(header)
    align_fields(edit, alignment)
    return edit.header, tuple(map(change_of, edit.done))


def from_address(header: Header) -> Address | None:
    """Return the address of the one unambiguous From mailbox, which routes a null sender; None without such a one."""
    try:
        return _mailbox(header.named.get("from", ()))[0].address
    except MailboxFault:
        return None


def _mailbox(raws: Sequence[bytes]) -> tuple[Mailbox, bool]:
    """Return the one mailbox in the one field, and whether its name cannot show any address. Raises MailboxFault."""
    if len(raws) != 1:
        raise MailboxFault(f"there are {len(raws)} of them")
    raw = raws[0]
    return _read(raw) if len(raw) <= _LONGEST_REMEMBERED else _read.__wrapped__(raw)


@lru_cache(maxsize=1024)  # a sender's messages mostly bear the same From
def _read(raw: bytes) -> tuple[Mailbox, bool]:
    mailbox = parse_from(value_of(raw))
    # A line of white space only is obsolete folding, and some programs end the header block at it.
    if _BLANK_LINE.search(raw):
        mailbox = mailbox._replace(is_plain=False)
    return mailbox, mailbox.display.isascii() and "@" not in mailbox.display and "=?" not in mailbox.display


def _check_from(address: Address, alignment: Alignment) -> None:
    """Refuse a From that the client may not use, or that is not the profile's where a mismatch is refused."""
    if address.key == alignment.identity.key:
        return
    ownership = alignment.ownership(address)
    # A bounce that is refused is lost, and its From says nothing about whom it claims to be from.
    is_expected = ownership in {Ownership.SAME, Ownership.MAIL_SYSTEM}
    is_mismatch = not is_expected and alignment.mismatch is Mismatch.REJECT
    if is_mismatch or ownership is Ownership.FORBIDDEN:
        text = f"From header <{address}> does not match the sender <{alignment.sender or ''}>"
        raise ContentRefused(Reply(550, "5.7.1", text))
