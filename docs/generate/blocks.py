"""What a page is made of, before it is written as Markdown or as a manual page.

Texts inside blocks have the inline marks of Markdown: `code`, **bold**, [words](link).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: level 1 is that of the page."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list of points."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Terms:
    """Words and what they mean. `heads` are the two columns' heads, where they are shown as a table."""

    heads: tuple[str, str]
    terms: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under their heads. A manual page has the first cell as a term, and the rest behind it."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines that stand as they are."""

    text: str
    language: str = ""


Block: TypeAlias = Heading | Text | Items | Terms | Table | Code
