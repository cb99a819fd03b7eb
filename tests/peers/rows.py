"""Tables of one rule: a test is played for each row in one case, which names all rows that failed."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest
from _pytest.mark import ParameterSet

Test = TypeVar("Test", bound=Callable[..., Any])
# What a row may end with while the others are played all the same. A row that skips proves nothing: it fails.
_OUTCOMES = (Exception, pytest.fail.Exception, pytest.skip.Exception)
_LONGEST_NAME = 100


def each_row(names: str | Sequence[str], rows: Iterable[Any], *, ids: Any = None) -> Callable[[Test], Test]:
    """Play a test for each row in one case. It takes what `pytest.mark.parametrize` takes, but no marks.

    Fixtures are made once for all rows. Two of these above one test play every row of the one with every row of the
    other.
    """
    columns = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    table = [(_name(ids, number, row), _values(columns, row)) for number, row in enumerate(rows)]
    assert table, "a table without a row proves nothing"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def play(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            with EachRow() as each:
                for name, values in table:
                    with each.row(name):
                        test(*args, **kwargs, **values)

        @functools.wraps(test)
        async def play_async(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            with EachRow() as each:
                for name, values in table:
                    with each.row(name):
                        await test(*args, **kwargs, **values)

        played = play_async if inspect.iscoroutinefunction(test) else play
        own = inspect.signature(test)
        assert set(columns) <= set(own.parameters), f"{test.__name__} has no parameter for each of {columns}"
        rest = [parameter for name, parameter in own.parameters.items() if name not in columns]
        vars(played)["__signature__"] = own.replace(parameters=rest)
        del vars(played)["__wrapped__"]
        return played  # type: ignore[return-value]

    return decorate


class EachRow:
    """Plays rows one after the other, and fails at its end with the name and the failure of each that failed."""

    def __init__(self) -> None:
        self._count = 0
        self._failures: list[tuple[str, str]] = []

    def row(self, name: str) -> "_Row":
        """One row: its failure is kept, and the next one is played."""
        self._count += 1
        return _Row(name, self._failures)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        if self._failures and (error is None or _is_timeout(error)):
            names = "".join(f"\n  {name}" for name, _ in self._failures)
            texts = "".join(f"\n\n--- {name}\n{text}" for name, text in self._failures)
            pytest.fail(f"{len(self._failures)} of {self._count} rows failed:{names}{texts}", pytrace=False)
        assert error is not None or self._count, "no row was played"


class _Row:
    def __init__(self, name: str, failures: list[tuple[str, str]]) -> None:
        self._name = name
        self._failures = failures

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, _OUTCOMES):
            return False
        is_report = isinstance(error, pytest.fail.Exception) and not error.pytrace  # of a table within this row
        shown = error if is_report else pytest.ExceptionInfo.from_exception(error).getrepr(style="short")
        self._failures.append((self._name, str(shown)))
        return not _is_timeout(error)


def _is_timeout(error: BaseException) -> bool:
    """Whether the case has had its time: pytest-timeout speaks once, so no further row would be ended."""
    return isinstance(error, pytest.fail.Exception) and "pytest-timeout" in str(error)


def _values(columns: Sequence[str], row: Any) -> Mapping[str, Any]:
    if isinstance(row, ParameterSet):
        assert not row.marks, "a row has no marks"
        values = tuple(row.values)
    else:
        values = tuple(row) if len(columns) > 1 else (row,)
    return dict(zip(columns, values, strict=True))


def _name(ids: Any, number: int, row: Any) -> str:
    """A row by its own id or that of `ids`, else by its values."""
    if isinstance(row, ParameterSet):
        if isinstance(row.id, str):
            return row.id
        row = row.values[0] if len(row.values) == 1 else row.values
    if callable(ids):
        return str(ids(row))
    if ids is not None:
        return str(list(ids)[number])
    text = repr(row)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"
