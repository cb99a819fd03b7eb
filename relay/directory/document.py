"""The text of directory.toml before and after an edit: comments and order stay where there are comments.

tomlkit keeps them, and takes its time for it; a file without comments goes the short way of tomllib and tomli-w.
"""

import re
import tomllib
from collections.abc import Callable, MutableMapping
from typing import Any

import tomli_w

# A "#" that no string holds. The strings of TOML, longest first, so that the rest of a match is a comment.
_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|(#)",
    re.DOTALL,
)


class CommentsInTheWay(Exception):
    """tomlkit cannot write this edit among the comments."""


def has_comments(text: str) -> bool:
    """Whether a TOML text has comments."""
    return "#" in text and any(match[1] for match in _COMMENT.finditer(text))


def as_text(text: str, tables: dict[str, Any], edit: Callable[[MutableMapping[str, Any]], None]) -> str:
    """Return a TOML text with an edit applied; `tables` is what the text says, and changes. Raises what `edit` raises.

    Comments are worth much and tomlkit's keeping of them is intricate, so what it wrote is compared with the same
    edit on plain tables; where they differ, CommentsInTheWay is raised and nothing wrong is written.
    """
    edit(tables)
    if not has_comments(text):
        return tomli_w.dumps(tables)
    import tomlkit  # noqa: PLC0415  only where there are comments

    document = tomlkit.parse(text)
    edit(document)
    written = tomlkit.dumps(document)
    if tomllib.loads(written) != tables:
        raise CommentsInTheWay
    return written
