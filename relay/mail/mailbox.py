"""One mailbox of a header field, such as From: `Jane Doe <jane@acme.example>` (RFC 5322 section 3.4).

SECURITY: programs disagree about groups, obsolete syntax, comments and encoded words in an address, and a forged
sender hides where they do. This parser takes what all of them read alike, and names what it refuses. Encoded words
are decoded in the display name only, never in the address.
"""

import re
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from relay.mail.address import Address, AddressError
from relay.mail.encoded_words import decode_words, write_phrase
from relay.mail.header import decode_octets
from relay.mail.structured_fields import ATOM, CONTROL, QUOTED, Token, TokenFault, tokens

_MOST_OCTETS = 4096
_WORD = re.compile(rf"{ATOM}|{QUOTED}")
_QUOTED_PAIR = re.compile(r"\\(.)")
# What a display name may decode to and a program might act on or take for a line end.
_LINE_MAKING = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\u2028\u2029]")
_UNSEEN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\s\u2028\u2029]+")
# What turns the direction of the text around it: a name that is shown in another order than it is written in.
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# The writing that every program reads alike: an address alone, or words and an address in angle brackets.
_PLAIN = re.compile(
    rf"(?P<display>(?:{ATOM}|{QUOTED})(?:[ \t]++(?:{ATOM}|{QUOTED}))*+)?[ \t]*+<(?P<inner>{ATOM}@{ATOM})>"
    rf"|(?P<bare>{ATOM}@{ATOM})"
)
_SHAPE = re.compile(r"(w*)<(w@[wl])>|w@[wl]")


class MailboxFault(ValueError):
    """The field's value is not exactly one mailbox. The message says in a few words what it is instead."""


class Mailbox(NamedTuple):
    """A display name, decoded ("" without one), and an address.

    `is_plain` says that it was written so that every program reads it alike; otherwise it must be written anew.
    """

    display: str
    address: Address
    is_plain: bool = False

    def __str__(self) -> str:
        """Return it as the value of a field. Raw UTF-8 stands in it only where the address is not ASCII."""
        return f"{write_phrase(self.display)} <{self.address}>" if self.display else str(self.address)


def parse_from(value: bytes) -> Mailbox:
    """Return the one mailbox in a field's unfolded value. Raises MailboxFault."""
    if len(value) > _MOST_OCTETS:
        raise MailboxFault(f"it is longer than {_MOST_OCTETS} octets")
    text = decode_octets(value)
    if CONTROL.search(text):
        raise MailboxFault("it holds control characters")
    match = _PLAIN.fullmatch(text)
    if match is None:
        return _parse_tokens(_tokens(text))
    is_utf8 = text.encode() == value
    return _mailbox(match["display"] or "", match["inner"] or match["bare"], is_plain=is_utf8)


def names_other_address(display: str, is_own: Callable[[Address], bool]) -> bool:
    """Whether a decoded display name shows an address other than an own one.

    Fullwidth and similar characters count as those they look like. A word with "@" that is not an address counts too,
    as does an encoded word that could not be decoded: a reader's program may show what we do not see.
    """
    if "@" not in display and display.isascii():
        return "=?" in display and "?=" in display
    text = unicodedata.normalize("NFKC", display)
    if "=?" in text and "?=" in text:
        return True
    return any(_is_other(left, right, is_own) for left, right in pairwise(text.split("@")))


def _is_other(left: str, right: str, is_own: Callable[[Address], bool]) -> bool:
    """Judge the words at both sides of an "@". "Jane @ Acme" and "Jane @acme" name no address, "@acme.example" does."""
    local = (left.split() or [""])[-1].lstrip("<>()[]\"',;:")
    domain = (right.split() or [""])[0].rstrip("<>()[]\"',;:.!")
    is_apart = left[-1:].isspace() or right[:1].isspace() or not local or not domain
    if is_apart and "." not in domain:
        return False
    try:
        return not is_own(Address(local, domain))
    except AddressError:
        return True


def _mailbox(phrase: str, address: str, *, is_plain: bool) -> Mailbox:
    local, _, domain = address.rpartition("@")
    if "=?" in address:
        raise MailboxFault("its address holds an encoded word")
    try:
        parsed = Address(local, domain)
    except AddressError as error:
        raise MailboxFault(str(error)) from None
    decoded = decode_words(_unquoted(phrase))
    is_meant = not _LINE_MAKING.search(decoded) and not _DIRECTIONS.search(decoded)
    return Mailbox(_shown(decoded), parsed, is_plain and is_meant)


def _shown(decoded: str) -> str:
    """Return a decoded display name without what is not seen."""
    return _UNSEEN.sub(" ", _DIRECTIONS.sub("", decoded)).strip()


def _unquoted(phrase: str) -> str:
    """Return the words of a phrase as they are meant: quotes and backslashes off, one space between."""
    if '"' not in phrase:
        return phrase
    return " ".join(_content(word) for word in _WORD.findall(phrase))


def _content(word: str) -> str:
    return _QUOTED_PAIR.sub(r"\1", word[1:-1]) if word.startswith('"') else word


def _tokens(text: str) -> tuple[Token, ...]:
    try:
        return tuple(tokens(text))
    except TokenFault as fault:
        raise MailboxFault(str(fault)) from None


def _parse_tokens(found: tuple[Token, ...]) -> Mailbox:
    """Return the mailbox in tokens: RFC 5322 without its obsolete forms, but with dots in the display name."""
    words = [token for token in found if token.kind != "comment"]
    match = _SHAPE.fullmatch("".join(token.kind[0] for token in words))
    if match is None:
        raise MailboxFault(_shape_fault([token.kind for token in words]))
    if match[2]:
        phrase = words[: len(match[1])]
        address = "".join(token.text for token in words[len(phrase) + 1 : -1])
        return _mailbox(" ".join(token.text for token in phrase), address, is_plain=False)
    # The oldest way to give a name: jane@acme.example (Jane Doe).
    comments = [token.text for token in found if token.kind == "comment"]
    mailbox = _mailbox("", "".join(token.text for token in words), is_plain=False)
    name = _QUOTED_PAIR.sub(r"\1", comments[-1]) if comments else ""
    return Mailbox(_shown(decode_words(name)), mailbox.address)


def _shape_fault(kinds: list[str]) -> str:
    if not kinds:
        return "it is empty"
    if "<" in kinds and {",", ":"} & set(kinds[kinds.index("<") :]) and kinds[-1] == ">" and kinds.count("<") == 1:
        return "its address holds a source route"
    if ":" in kinds or ";" in kinds:
        return "it is a group"
    return "it names several mailboxes" if "," in kinds else "it is no mailbox"
