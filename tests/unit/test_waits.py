"""How tests wait: for events, with deadlines that a busy machine keeps; where they wait for nothing, they say why."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# tests/bench and tests/long are about time.
FILES = [path for path in (ROOT / "tests").rglob("*.py") if not {"bench", "long"}.intersection(path.parts)]
SHORTEST_DEADLINE = 10.0


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """Yield the calls of a function, whatever it is an attribute of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name:
            yield node


def short_deadlines(source: str) -> list[int]:
    """The lines at which a test gives up before ten seconds are over."""
    tree = ast.parse(source)
    given = [(call, call.args[0]) for call in calls(tree, "timeout") if call.args]
    given += [(call, call.args[2]) for call in calls(tree, "wait_until") if len(call.args) > 2]
    return sorted(
        call.lineno
        for call, seconds in given
        if isinstance(seconds, ast.Constant)
        and isinstance(seconds.value, int | float)
        and 0 < seconds.value < SHORTEST_DEADLINE
    )


def test_no_deadline_is_one_that_a_busy_machine_misses() -> None:
    """It only ends what hangs."""
    wrong = [f"{path.relative_to(ROOT)}:{line}" for path in FILES for line in short_deadlines(path.read_text())]
    assert not wrong


@pytest.mark.parametrize(
    ("line", "is_short"),
    [
        ("asyncio.timeout(5)", True),
        ("asyncio.timeout(10)", False),
        ("wait_until(is_so, 'it', 5)", True),
        ("wait_until(is_so, 'it')", False),
        ("wait_until(is_so, 'it', PATIENCE)", False),
    ],
)
def test_a_short_deadline_is_found(line: str, is_short: bool) -> None:
    assert bool(short_deadlines(line)) is is_short


def unexplained_sleeps(source: str) -> list[int]:
    """The lines at which a test sleeps and is in no loop that looks for something, without a word on it."""
    lines, tree = source.splitlines(), ast.parse(source)
    looking = {node for loop in ast.walk(tree) if isinstance(loop, ast.While) for node in ast.walk(loop)}
    return [
        call.lineno
        for call in calls(tree, "sleep")
        if call not in looking and ast.unparse(call.args[0]) != "0" and "  # " not in lines[call.lineno - 1]
    ]


def test_a_fixed_sleep_says_why_nothing_can_be_waited_for() -> None:
    """That something stays away is looked for by `tests.peers.moments.a_while`, whose reason is always the same."""
    files = [path for path in FILES if path.name != "moments.py"]
    wrong = [f"{path.relative_to(ROOT)}:{line}" for path in files for line in unexplained_sleeps(path.read_text())]
    assert not wrong


def test_an_unexplained_sleep_is_found() -> None:
    assert unexplained_sleeps("time.sleep(1)") == [1]
    assert unexplained_sleeps("time.sleep(1)  # a lease") == []
    assert unexplained_sleeps("while not done:\n    time.sleep(1)") == []
