"""The table of attacks (README.md) names tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

from tests.peers.rows import each_row

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in Path(__file__).with_name("README.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| attack", "| ---"))
]
_NAME = re.compile(r"`(tests/[^`]+)`")


@cache
def functions_of(path: Path) -> frozenset[str]:
    """The names of the functions in a file."""
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@each_row("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_attack_is_played_by_tests_that_exist(row: str) -> None:
    attack, answer, tests = (cell.strip() for cell in row.strip("|").split("|"))
    assert attack
    assert answer
    names = _NAME.findall(tests)
    assert names
    for name in names:
        file, _, test = name.partition("::")
        path = ROOT / file
        assert path.is_file(), name
        assert not test or test in functions_of(path), name


def test_no_test_of_these_is_missing_in_the_table() -> None:
    """A new attack has a row."""
    text = "\n".join(ROWS)
    missing = [
        f"{path.name}::{name}"
        for path in sorted(Path(__file__).parent.glob("test_*.py"))
        if path != Path(__file__)
        for name in sorted(functions_of(path))
        if name.startswith("test_") and f"`tests/hostile/{path.name}::{name}`" not in text
    ]
    assert not missing
