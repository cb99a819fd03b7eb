"""The tokens of a structured header field (RFC 5322 section 3.2), and the addresses in a list (section 3.4).

Tokens are words, comments, address literals and marks. A list is what To, Cc and Bcc hold: with names, groups and
comments. It is found where each address stands; whether it is one that mail can go to, the service says.
SECURITY: encoded words are never decoded here, and no address that comes out holds a control character, or a bracket
outside its quotes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ATOM = r'[^\x00-\x20"(),:;<>@\[\\\]\x7f]++'  # atext of RFC 5322 and RFC 6532, and dots
QUOTED = r'"(?:[^"\\]|\\.)*+"'
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(rf"(?P<space>[ \t]+)|(?P<word>{ATOM}|{QUOTED})|(?P<literal>\[[^\[\]\\]*\])|(?P<special>[<>@,:;])")
_COMMENT_MARK = re.compile(r"\\.|[()]")


class TokenFault(ValueError):
    """The text cannot be split into tokens. The message says in a few words why."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token. `end` is the position in the text behind it."""

    kind: str  # word, literal, comment, or the special character itself
    text: str
    end: int


def tokens(text: str) -> Iterator[Token]:
    """Yield the tokens of an unfolded value without its white space. Raises TokenFault on the way."""
    position = 0
    while position < len(text):
        if text[position] == "(":
            end = _comment_end(text, position)
            yield Token("comment", text[position + 1 : end - 1], end)
        else:
            match = _TOKEN.match(text, position)
            if match is None:
                raise TokenFault(f"{text[position]!r} has no place in it")
            end = match.end()
            if match.lastgroup != "space":
                yield Token(match[0] if match.lastgroup == "special" else str(match.lastgroup), match[0], end)
        position = end


def _comment_end(text: str, start: int) -> int:
    depth = 0
    for mark in _COMMENT_MARK.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if depth == 0:
            return mark.end()
    raise TokenFault("a comment in it is not closed")


# Words, or words and an address in angle brackets; a local user's name stands without a domain.
_SHAPE = re.compile(r"([wl@]*)<(w(?:@[wl])?)>|w(?:@[wl])?")


class ListFault(ValueError):
    """The text is not a list of addresses. The message says in a few words why."""


@dataclass(frozen=True, slots=True)
class ListedAddress:
    """An address as it stands in a list, without comments and white space; `end` is the position in the list behind it.

    Without a domain it is the name of a user of this machine.
    """

    text: str
    end: int
    has_domain: bool


def parse_address_list(text: str) -> tuple[ListedAddress, ...]:
    """Return the addresses of an unfolded list in their order, those in groups too. Raises ListFault.

    Semicolons separate as commas do, which many people write, and empty places between them say nothing.
    """
    if CONTROL.search(text):
        raise ListFault("it holds control characters")
    try:
        return tuple(_address(entry) for entry in _entries(tokens(text)) if entry)
    except TokenFault as fault:
        raise ListFault(str(fault)) from None


def _entries(found: Iterator[Token]) -> Iterator[Sequence[Token]]:
    """Yield the tokens between the commas, without comments and the names of groups."""
    entry: list[Token] = []
    is_in_brackets = False
    for token in found:
        if token.kind == "comment":
            continue
        if token.kind in {",", ";"} and not is_in_brackets:
            yield entry
            entry = []
        elif token.kind == ":" and not is_in_brackets:
            entry = []
        else:
            is_in_brackets = token.kind == "<" or (is_in_brackets and token.kind != ">")
            entry.append(token)
    yield entry


def _address(entry: Sequence[Token]) -> ListedAddress:
    match = _SHAPE.fullmatch("".join(token.kind[0] for token in entry))
    if match is None:
        raise ListFault(f"{' '.join(token.text for token in entry)!r} is no mailbox")
    address = entry[len(match[1]) + 1 : -1] if match[2] else entry
    text = "".join(token.text for token in address)
    if "=?" in text:
        raise ListFault(f"the address {text!r} holds an encoded word")
    if "\t" in text:
        raise ListFault(f"the address {text!r} holds a tab")
    return ListedAddress(text, address[-1].end, has_domain=len(address) > 1)
