"""Every reply that the code can give, read off the source: the code, the enhanced code, and the words.

What is filled in when it is given stands in capital letters: "<SENDER>: CLIENT may not send as this address".
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import relay

_PACKAGE = Path(relay.__file__).parent
# The answers of the built-in upstream of the demo are nobody's, and mail/reply.py only says what a reply is.
_NO_REPLIES_OF_OURS = frozenset({"listener/capture.py", "mail/reply.py"})


def replies_in_code() -> dict[str, str]:
    """Return "CODE ENHANCED WORDS" of every reply, and in which file it is."""
    found: dict[str, str] = {}
    for file in sorted(_PACKAGE.rglob("*.py")):
        name = file.relative_to(_PACKAGE).as_posix()
        if name not in _NO_REPLIES_OF_OURS and "Reply" in (source := file.read_text()):
            for text in _Module(ast.parse(source)).replies():
                found.setdefault(text, name)
    return found


class _Module:
    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._constants = _assigned(tree.body)

    def replies(self) -> Iterator[str]:
        yield from self._within(self._tree, self._constants)

    def _within(self, scope: ast.AST, names: dict[str, list[ast.expr]]) -> Iterator[str]:
        for node in ast.iter_child_nodes(scope):
            inner = names
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = {**names, **_assigned(list(ast.walk(node)))}
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Reply":
                yield from self._texts(node, inner)
            yield from self._within(node, inner)

    def _texts(self, call: ast.Call, names: dict[str, list[ast.expr]]) -> Iterator[str]:
        code = call.args[0]
        if not isinstance(code, ast.Constant):
            return  # made anew from another reply
        if isinstance(call.args[1], ast.Starred):  # one of a table of (enhanced code, words)
            table = next(iter(names["_LATER"]))
            pairs = [value.elts for value in getattr(table, "values", []) if isinstance(value, ast.Tuple)]
        else:
            pairs = [call.args[1:]]
        for enhanced, words in pairs:
            if isinstance(enhanced, ast.Constant | ast.Name):
                for status in _texts_of(enhanced, names):
                    for text in _texts_of(words, names):
                        yield re.sub(" +", " ", f"{code.value!r} {status} {text}").rstrip()


def _assigned(body: list[ast.AST] | list[ast.stmt]) -> dict[str, list[ast.expr]]:
    names: dict[str, list[ast.expr]] = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names.setdefault(node.targets[0].id, []).append(node.value)
    return names


def _texts_of(node: ast.expr, names: dict[str, list[ast.expr]]) -> Iterator[str]:
    """Yield what an expression may say: of a choice both, of a variable what was assigned to it."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(_part(part) for part in parts)
        case ast.Call(func=ast.Name(id="clean_text"), args=[inner, *_]):
            yield from _texts_of(inner, names)
        case ast.Name(id=name) if name in names:
            for value in names[name]:
                yield from _texts_of(value, names)
        case ast.IfExp(body=one, orelse=other):
            yield from _texts_of(one, names)
            yield from _texts_of(other, names)
        case _:
            yield _word(node)


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    return _word(part.value) if isinstance(part, ast.FormattedValue) else ""


def _word(node: ast.expr) -> str:
    """Return the variable's own name, or the last part of upstream.text."""
    last = next((n for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)), None)
    name = last.attr if isinstance(last, ast.Attribute) else last.id if isinstance(last, ast.Name) else "…"
    return name.strip("_").upper()
