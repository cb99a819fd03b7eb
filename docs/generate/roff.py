"""Pages as manual pages: man(7), in what groff and mandoc have in common."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from docs.generate.blocks import Block, Code, Heading, Items, Table, Terms, Text
from docs.generate.markdown import MARKS, folded

_WIDTH = 76
_NON_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True, slots=True)
class Manual:
    """What stands at the head of a manual page. `date` is that of the last change of its form, as man(7) wants one."""

    name: str
    section: int
    summary: str
    version: str
    date: str


def to_roff(manual: Manual, blocks: Sequence[Block]) -> str:
    """Return the manual page. The blocks begin behind NAME; a heading of level 1 is left out."""
    lines = [
        '.\\" Made by "make docs" from the code; change it there.',
        f'.TH {manual.name.upper()} {manual.section} {manual.date} "Relay {manual.version}" Relay',
        ".SH NAME",
        f"{manual.name} \\- {_plain(manual.summary)}",
    ]
    is_first = True  # a macro for a paragraph behind a heading is one too many
    for block in blocks:
        lines.extend(_written(block, is_first=is_first))
        is_first = isinstance(block, Heading)
    return "\n".join(lines) + "\n"


def _written(block: Block, *, is_first: bool) -> Iterator[str]:
    match block:
        case Heading(level, text):
            if level > 1:
                yield f'.SH "{_titled(text)}"' if level == 2 else f'.SS "{_plain(text)}"'
        case Text(text):
            yield from [] if is_first else [".PP"]
            yield from _folded(text)
        case Items(items):
            for item in items:
                yield '.IP "\\(bu" 2'
                yield from _folded(item)
        case Terms(_, terms):
            for term, meaning in terms:
                yield from _term(f"`{term}`", meaning)
        case Table(heads, rows):
            for term, *rest in rows:
                yield from _term(term, _meaning(heads[1:], rest))
        case Code(text):
            yield from [] if is_first else [".PP"]
            yield ".in +4n"
            yield ".EX"
            yield from (_safe(_escaped(line)) for line in text.splitlines())
            yield ".EE"
            yield ".in"


def _titled(text: str) -> str:
    """Return a heading as manual pages have them; what one types keeps its letters."""
    return _plain(text) if text.startswith(("[", "relay ")) else _plain(text).upper()


def _meaning(heads: Sequence[str], cells: Sequence[str]) -> str:
    """Return what a row says behind its term: its last cell, then the others with their heads."""
    *others, meaning = cells
    labelled = "; ".join(f"{head}: {cell}" for head, cell in zip(heads, others, strict=False) if cell)
    return f"{meaning} ({labelled})" if labelled else meaning


def _term(term: str, meaning: str) -> Iterator[str]:
    yield ".TP"
    yield _inline(term)
    yield from _folded(meaning)


def _folded(text: str) -> list[str]:
    """Return a text in lines. A line must not begin with what is a request."""
    return [_safe(_inline(line)) for line in folded(text, _WIDTH)]


def _inline(text: str) -> str:
    parts: list[str] = []
    end = 0
    for found in MARKS.finditer(text):
        parts += [_escaped(text[end : found.start()], is_prose=True), _marked(found)]
        end = found.end()
    return "".join([*parts, _escaped(text[end:], is_prose=True)])


def _marked(found: re.Match[str]) -> str:
    if found["words"]:
        is_far = "://" in found["link"]
        return _escaped(found["words"].strip("`"), is_prose=True) + (f" ({_escaped(found['link'])})" if is_far else "")
    return f"\\fB{_escaped(found['code'] or found['bold'])}\\fP"


def _plain(text: str) -> str:
    """Return a text without marks, for headings."""
    shown = MARKS.sub(lambda found: found["code"] or found["bold"] or found["words"], text)
    return _escaped(shown, is_prose=True).replace('"', "\\(dq")


def _escaped(text: str, *, is_prose: bool = False) -> str:
    """Return a text that roff shows as it is. In prose a hyphen is a hyphen; elsewhere it is what one types."""
    text = text.replace("\\", "\\e")
    if not is_prose:
        text = text.replace("-", "\\-")
    text = text.replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    return _NON_ASCII.sub(lambda found: f"\\[u{ord(found[0]):04X}]", text)


def _safe(line: str) -> str:
    return f"\\&{line}" if line.startswith((".", "'")) else line
