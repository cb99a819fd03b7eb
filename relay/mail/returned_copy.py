"""One recipient's copy that came back, and what servers' words say about it."""

import re
from dataclasses import dataclass

from relay.mail.reply import clean_text

_MOST_CHARACTERS = 500
# RFC 3463, but no part of an IP address or of a version.
_ENHANCED = re.compile(r"(?<![\d.])([45]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)")
_CODE = re.compile(r"(?<![\d.])([45])\d\d(?=[ \-,:;'\"]|$)")


@dataclass(frozen=True, slots=True)
class ReturnedCopy:
    """Who did not get it, and why.

    `addresses` are the names of one recipient: as we gave it first, as it was found last. `status` is an enhanced code
    (RFC 3463), `words` what the server said on one line, `reporter` the mail system that sent the report ("" where it
    does not say).
    """

    addresses: tuple[str, ...]
    status: str
    words: str
    reporter: str

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ValueError("a copy that came back was for somebody")


def words_of(text: str) -> str:
    """Return text as one clean line of at most 500 characters."""
    return " ".join(clean_text(text).split())[:_MOST_CHARACTERS].rstrip()


def status_in(words: str) -> str:
    """Return the enhanced code in a server's words, or X.0.0 by its reply code; "" where there is neither."""
    enhanced = _ENHANCED.search(words)
    if enhanced is not None:
        return enhanced[1]
    code = _CODE.search(words)
    return f"{code[1]}.0.0" if code is not None else ""
