"""One mailbox of a header field, such as From: `Jane Doe <jane@acme.example>` (RFC 5322 section 3.4).

SECURITY: programs disagree about groups, obsolete syntax, comments and encoded words in an address, and a forged
sender hides where they do. This parser takes what all of them read alike, and names what it refuses. Encoded words
are decoded in the display name only, never in the address.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from relay.mail.address import Address, AddressError
from relay.mail.header import decode_octets
from relay.mail.words import decode_words, encode_words

_MOST_OCTETS = 4096
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010FFFF"
_ATOM = rf"[{_ATEXT}.]++"
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_WORD = re.compile(rf"{_ATOM}|{_QUOTED}")
_QUOTED_PAIR = re.compile(r"\\(.)")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# What a display name may decode to and a program might act on or take for a line end.
_LINE_MAKING = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\u2028\u2029]")
_UNSEEN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\s\u2028\u2029]+")
# The writing that every program reads alike: an address alone, or words and an address in angle brackets.
_PLAIN = re.compile(
    rf"(?P<display>(?:{_ATOM}|{_QUOTED})(?:[ \t]++(?:{_ATOM}|{_QUOTED}))*+)?[ \t]*+<(?P<inner>{_ATOM}@{_ATOM})>"
    rf"|(?P<bare>{_ATOM}@{_ATOM})"
)
_TOKEN = re.compile(rf"(?P<space>[ \t]+)|(?P<word>{_ATOM}|{_QUOTED})|(?P<literal>\[[^\[\]\\]*\])|(?P<special>[<>@,:;])")
_SHAPE = re.compile(r"(w*)<(w@[wl])>|w@[wl]")
_COMMENT_MARK = re.compile(r"\\.|[()]")
# A display name in ASCII that needs no quotes: atoms with single spaces (RFC 5322 section 3.2.5).
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+)*")
_QUOTABLE = re.compile(r"[ -~]{1,64}")


class MailboxFault(ValueError):
    """The field's value is not exactly one mailbox. The message says in a few words what it is instead."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A display name, decoded ("" without one), and an address.

    `is_plain` says that it was written so that every program reads it alike; otherwise it must be written anew.
    """

    display: str
    address: Address
    is_plain: bool = False

    def __str__(self) -> str:
        """Return it as the value of a field. Raw UTF-8 stands in it only where the address is not ASCII."""
        return f"{_phrase(self.display)} <{self.address}>" if self.display else str(self.address)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # word, literal, comment, or the special character itself
    text: str


def parse_from(value: bytes) -> Mailbox:
    """Return the one mailbox in a field's unfolded value. Raises MailboxFault."""
    if len(value) > _MOST_OCTETS:
        raise MailboxFault(f"it is longer than {_MOST_OCTETS} octets")
    text = decode_octets(value)
    if _CONTROL.search(text):
        raise MailboxFault("it holds control characters")
    match = _PLAIN.fullmatch(text)
    if match is None:
        return _parse_tokens(tuple(_tokens(text)))
    is_utf8 = text.encode() == value
    return _mailbox(match["display"] or "", match["inner"] or match["bare"], is_plain=is_utf8)


def names_other_address(display: str, is_own: Callable[[Address], bool]) -> bool:
    """Whether a decoded display name shows an address other than an own one.

    Fullwidth and similar characters count as those they look like. A word with "@" that is no address counts too, as
    does an encoded word that could not be decoded: a reader's program may show what we do not see.
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
    display = _UNSEEN.sub(" ", decoded).strip()
    return Mailbox(display, parsed, is_plain and not _LINE_MAKING.search(decoded))


def _unquoted(phrase: str) -> str:
    """Return the words of a phrase as they are meant: quotes and backslashes off, one space between."""
    if '"' not in phrase:
        return phrase
    return " ".join(_content(word) for word in _WORD.findall(phrase))


def _content(word: str) -> str:
    return _QUOTED_PAIR.sub(r"\1", word[1:-1]) if word.startswith('"') else word


def _tokens(text: str) -> Iterator[_Token]:
    """Yield the tokens of a structured field without its white space (RFC 5322 section 3.2)."""
    position = 0
    while position < len(text):
        if text[position] == "(":
            end = _comment_end(text, position)
            yield _Token("comment", text[position + 1 : end - 1])
        else:
            match = _TOKEN.match(text, position)
            if match is None:
                raise MailboxFault(f"{text[position]!r} has no place in it")
            end = match.end()
            if match.lastgroup != "space":
                yield _Token(match[0] if match.lastgroup == "special" else str(match.lastgroup), match[0])
        position = end


def _comment_end(text: str, start: int) -> int:
    depth = 0
    for mark in _COMMENT_MARK.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if depth == 0:
            return mark.end()
    raise MailboxFault("a comment in it is not closed")


def _parse_tokens(tokens: tuple[_Token, ...]) -> Mailbox:
    """Return the mailbox in tokens: RFC 5322 without its obsolete forms, but with dots in the display name."""
    words = [token for token in tokens if token.kind != "comment"]
    match = _SHAPE.fullmatch("".join(token.kind[0] for token in words))
    if match is None:
        raise MailboxFault(_shape_fault([token.kind for token in words]))
    if match[2]:
        phrase = words[: len(match[1])]
        address = "".join(token.text for token in words[len(phrase) + 1 : -1])
        return _mailbox(" ".join(token.text for token in phrase), address, is_plain=False)
    # The oldest way to give a name: jane@acme.example (Jane Doe).
    comments = [token.text for token in tokens if token.kind == "comment"]
    mailbox = _mailbox("", "".join(token.text for token in words), is_plain=False)
    name = _QUOTED_PAIR.sub(r"\1", comments[-1]) if comments else ""
    return Mailbox(_UNSEEN.sub(" ", decode_words(name)).strip(), mailbox.address)


def _shape_fault(kinds: list[str]) -> str:
    if not kinds:
        return "it is empty"
    if "<" in kinds and {",", ":"} & set(kinds[kinds.index("<") :]) and kinds[-1] == ">" and kinds.count("<") == 1:
        return "its address holds a source route"
    if ":" in kinds or ";" in kinds:
        return "it is a group"
    return "it names several mailboxes" if "," in kinds else "it is no mailbox"


def _phrase(display: str) -> str:
    """Return a display name as RFC 5322 words: as it is, in quotes, or encoded."""
    if "=?" in display or not _QUOTABLE.fullmatch(display):
        return encode_words(display)
    if _PHRASE.fullmatch(display):
        return display
    return '"' + re.sub(r'(["\\])', r"\\\1", display) + '"'
