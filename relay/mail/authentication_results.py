"""What a receiver wrote about a message: the Authentication-Results field (RFC 8601).

SECURITY: anyone can write such a field into the message that he sends. Only fields of one authserv-id count, that of
the topmost one: it was put there last, by the receiver itself, which also removes those that bear its own name
(section 5). And only such as stand above what the message had when it was sent.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from relay.mail.mime import Fields

_MOST_OCTETS = 16_384
_QUOTED = r'"(?:[^"\\]|\\.)*"'
# pvalue (section 2.2) may hold "@" and what else stands in addresses and domains: anything but space and semicolon.
_PAIR = rf'[A-Za-z][A-Za-z0-9._-]*(?:\s*/\s*[0-9]+)?\s*=\s*(?:{_QUOTED}|[^\s;"=][^\s;"]*)'
_PAIRS = re.compile(rf"{_PAIR}(?:\s+{_PAIR})*")
_ONE_PAIR = re.compile(rf'([A-Za-z][A-Za-z0-9._-]*)(?:\s*/\s*[0-9]+)?\s*=\s*({_QUOTED}|[^\s;"=][^\s;"]*)')
_ID = re.compile(rf'({_QUOTED}|[^\s;"=]+)(?:\s+[0-9]+)?')
_SECTION = re.compile(rf'((?:{_QUOTED}|[^";])*)(?:;|\Z)')
_PAIR_OF_QUOTES = 2

Properties: TypeAlias = tuple[tuple[str, str], ...]


class ResultsFault(ValueError):
    """The value is not what RFC 8601 says. The message says in a few words what it is instead."""


@dataclass(frozen=True, slots=True)
class ReceiverVerdict:
    """What came of one method: ("dkim", "pass", (("header.d", "acmejets.example"),)). Words in lower case."""

    method: str
    result: str
    properties: Properties = ()

    def get(self, *names: str) -> str:
        """Return the first of these properties that there is; "" where there is none."""
        found = dict(reversed(self.properties))
        return next((found[name] for name in names if name in found), "")


@dataclass(frozen=True, slots=True)
class AuthenticationResults:
    """One field: who judged ("" where it gives no name), and the verdicts."""

    authserv_id: str
    verdicts: tuple[ReceiverVerdict, ...]

    @classmethod
    def parse(cls, value: str) -> "AuthenticationResults":
        """Return what an unfolded value says. Raises ResultsFault."""
        if len(value) > _MOST_OCTETS:
            raise ResultsFault("it is too long")
        first, *rest = _sections(_without_comments(value))
        # Microsoft 365 leaves its name out and begins with the first verdict.
        authserv_id = _ID.fullmatch(first)
        if authserv_id is None:
            rest = [first, *rest]
        verdicts = tuple(_verdict(section) for section in rest if section not in {"", "none"})
        return cls(_unquoted(authserv_id[1]).lower() if authserv_id else "", verdicts)


def receivers_verdicts(fields: Fields, first_sent: str) -> tuple[str, tuple[ReceiverVerdict, ...]] | None:
    """Return the receiver's name and its verdicts; None where it wrote none that can be read.

    `first_sent` is the name, in lower case, of the field that stood on top when the message was sent.
    """
    names = [name for name, _ in fields]
    above = fields[: names.index(first_sent)] if first_sent in names else fields
    values = [value for name, value in above if name == "authentication-results"]
    read = [result for value in values if (result := _read(value)) is not None]
    if not values or not read or read[0] != _read(values[0]):
        return None  # nobody's word, where the topmost cannot be read
    mine = [result for result in read if result.authserv_id == read[0].authserv_id]
    return read[0].authserv_id, tuple(verdict for result in mine for verdict in result.verdicts)


def _read(value: str) -> AuthenticationResults | None:
    try:
        return AuthenticationResults.parse(value)
    except ResultsFault:
        return None


def _verdict(section: str) -> ReceiverVerdict:
    if not _PAIRS.fullmatch(section):
        raise ResultsFault("a part of it is no METHOD=RESULT")
    (method, result), *properties = ((name.lower(), _unquoted(value)) for name, value in _ONE_PAIR.findall(section))
    return ReceiverVerdict(method, result.lower(), tuple(properties))


def _sections(text: str) -> list[str]:
    """Return what stands between the semicolons that are in no quotes."""
    found, position = [], 0
    while position <= len(text):
        match = _SECTION.match(text, position)
        if match is None:
            raise ResultsFault("a quote is not closed")
        found.append(match[1].strip())
        if match.end() == len(text) and not match[0].endswith(";"):
            break
        position = match.end()
    return found


def _without_comments(text: str) -> str:
    """Return the text with a space for each comment (RFC 5322 section 3.2.2): they nest, and quotes hold none."""
    kept = "".join(_outside(text))
    if "\0" in text:
        raise ResultsFault("it holds control characters")
    return kept.strip()


def _outside(text: str) -> Iterator[str]:
    depth, is_quoted, is_escaped = 0, False, False
    for character in text:
        if is_escaped:
            is_escaped = False
        elif character == "\\" and (is_quoted or depth):
            is_escaped = True
        elif character == '"' and not depth:
            is_quoted = not is_quoted
        elif character == "(" and not is_quoted:
            depth += 1
        elif character == ")" and depth and not is_quoted:
            depth -= 1
            yield " "
            continue
        if not depth:
            yield character
    if depth or is_quoted:
        raise ResultsFault("a comment or a quote is not closed")


def _unquoted(text: str) -> str:
    if len(text) >= _PAIR_OF_QUOTES and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text
