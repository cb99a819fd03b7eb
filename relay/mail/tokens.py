"""The tokens of a structured header field: words, comments, address literals and marks (RFC 5322 section 3.2)."""

import re
from collections.abc import Iterator
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
