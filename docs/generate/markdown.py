"""Pages as Markdown: written from blocks, and read into blocks where a manual page is made of a page by hand."""

import re
import textwrap
from collections.abc import Iterator, Sequence

from docs.generate.blocks import Block, Code, Heading, Items, Table, Terms, Text

_WIDTH = 118
MARKS = re.compile(r"`(?P<code>[^`]+)`|\*\*(?P<bold>[^*]+)\*\*|\[(?P<words>[^\]]+)\]\((?P<link>[^)]+)\)")
_CELLS = re.compile(r"(?<!\\)\|")


def to_markdown(blocks: Sequence[Block], notice: str = "") -> str:
    """Return the page. `notice` says, where only editors see it, what makes this page."""
    parts = [f"<!-- {notice} -->"] if notice else []
    return "\n\n".join([*parts, *map(_written, blocks)]) + "\n"


def from_markdown(text: str) -> list[Block]:
    """Return the blocks of a page, as far as our pages use Markdown: no lists in lists, no quotations, no images."""
    return list(_read(text.splitlines()))


def _written(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Text(text):
            return "\n".join(folded(text, _WIDTH))
        case Items(items):
            return "\n".join(f"- {item}" for item in items)
        case Terms(heads, terms):
            return _table(heads, [[f"`{term}`", meaning] for term, meaning in terms])
        case Table(heads, rows):
            return _table(heads, rows)
        case Code(text, language):
            return f"```{language}\n{text}\n```"


def folded(text: str, width: int) -> list[str]:
    """Return a text in lines, folded between words that stand in no mark."""
    whole = MARKS.sub(lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _read(lines: Sequence[str]) -> Iterator[Block]:
    position = 0
    while position < len(lines):
        line = lines[position]
        end = position + 1
        if line.startswith("```"):
            end = next(number for number in range(end, len(lines)) if lines[number].startswith("```")) + 1
            yield Code("\n".join(lines[position + 1 : end - 1]), line[3:])
        elif line.startswith("#"):
            marks, _, text = line.partition(" ")
            yield Heading(len(marks), text)
        elif line.strip() and not line.startswith("<!--"):
            while end < len(lines) and lines[end].strip() and not lines[end].startswith(("```", "#")):
                end += 1
            yield _paragraph(lines[position:end])
        position = end


def _paragraph(lines: Sequence[str]) -> Block:
    if lines[0].startswith("|"):
        heads, _, *rows = [_cells(line) for line in lines]
        return Table(heads, rows)
    if re.match(r"(- |\d+\. )", lines[0]):
        joined = re.split(r"\n(?:- |\d+\. )", "\n" + "\n".join(lines))[1:]
        return Items([" ".join(item.split()) for item in joined])
    return Text(" ".join(" ".join(lines).split()))


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in _CELLS.split(line.strip().strip("|"))]
