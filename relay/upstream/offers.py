"""What a server announces in its answer to EHLO (RFC 5321 section 4.1.1.1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiosmtplib.esmtp import parse_esmtp_extensions

_SIZE_DIGITS = 18
"""An announced SIZE with more digits is nonsense."""


@dataclass(frozen=True, slots=True)
class Offers:
    """What EHLO announced: extensions in lower case with their parameters, and the names of AUTH.

    `size` is the largest message the server takes, in octets; 0 where it does not say (RFC 1870 section 4).
    """

    extensions: Mapping[str, str] = field(default_factory=dict)
    mechanisms: tuple[str, ...] = ()
    size: int = 0

    @classmethod
    def parse(cls, text: str) -> "Offers":
        """Return what the lines of an EHLO answer say (RFC 5321 section 4.1.1.1)."""
        extensions, mechanisms = parse_esmtp_extensions(text)
        return cls(extensions, tuple(mechanisms), _size(extensions.get("size", "").strip()))

    def has(self, extension: str) -> bool:
        """Whether an extension was announced, such as "8bitmime"."""
        return extension in self.extensions


def _size(digits: str) -> int:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _SIZE_DIGITS else 0
