"""What `$name` in main.cf stands for (postconf(5)), for settings that refer to others. Pure."""

from collections.abc import Mapping

_DEEPEST = 20
_MOST_CHARACTERS = 100_000
_MOST_STEPS = 10_000
_CLOSING: Mapping[str, str] = {"{": "}", "(": ")"}


class Unreadable(Exception):
    """A value cannot be worked out. The message is the end of a sentence about it."""


class Names:
    """The values of settings by name, each worked out from what is written and from the defaults given here."""

    def __init__(self, written: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self._values = {**defaults, **written}
        self._steps = 0

    def value(self, name: str) -> str:
        """Return the value of a setting; "" for one that nobody set. Raises Unreadable."""
        self._steps = 0
        return self.expanded(self._values.get(name, ""))

    def expanded(self, text: str, depth: int = 0) -> str:
        """Return a text with what its names stand for. Raises Unreadable."""
        if depth > _DEEPEST:
            raise Unreadable("its names refer to each other without end")
        done: list[str] = []
        position = 0
        while (at := text.find("$", position)) >= 0:
            done.append(text[position:at])
            replacement, position = self._named(text, at + 1, depth)
            done.append(replacement)
        result = "".join([*done, text[position:]])
        if len(result) > _MOST_CHARACTERS:
            raise Unreadable("what its names stand for is endlessly long")
        return result

    def _named(self, text: str, begin: int, depth: int) -> tuple[str, int]:
        """Return what the name that begins behind a "$" stands for, and where the text goes on."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise Unreadable("what its names stand for is endlessly long")
        if text[begin : begin + 1] == "$":
            return "$", begin + 1
        if text[begin : begin + 1] in _CLOSING:
            end = _end_of_braces(text, begin)
            return self._in_braces(text[begin + 1 : end], depth), end + 1
        end = begin
        while end < len(text) and _is_of_name(text[end]):
            end += 1
        if end == begin:
            raise Unreadable("a '$' in it names nothing")
        return self.expanded(self._values.get(text[begin:end], ""), depth + 1), end

    def _in_braces(self, text: str, depth: int) -> str:
        """Return what "name", "name?if set" or "name:if not set" in braces stands for."""
        if text.startswith("{"):
            raise Unreadable("a comparison in it (${{…} == {…} ? …}) is more than Relay reads")
        end = next((at for at, character in enumerate(text) if not _is_of_name(character)), len(text))
        name, rest = text[:end], text[end:].strip()
        value = self.expanded(self._values.get(name, ""), depth + 1)
        if not rest:
            return value
        if rest[0] not in "?:":
            raise Unreadable("what stands in its braces is no name")
        chosen, other = _alternatives(rest[1:].strip())
        if rest[0] == ":":
            return "" if value else self.expanded(chosen, depth + 1)
        return self.expanded(chosen if value else other, depth + 1)


def _alternatives(text: str) -> tuple[str, str]:
    """Return "a" and "b" of "{a}:{b}"; "a" alone may stand without braces."""
    if not text.startswith("{"):
        return text, ""
    end = _end_of_braces(text, 0)
    rest = text[end + 1 :].strip()
    other = rest.removeprefix(":").strip()
    return text[1:end].strip(), other[1:-1].strip() if other.startswith("{") and other.endswith("}") else other


def _end_of_braces(text: str, begin: int) -> int:
    opening, closing = text[begin], _CLOSING[text[begin]]
    depth = 0
    for at in range(begin, len(text)):
        depth += (text[at] == opening) - (text[at] == closing)
        if not depth:
            return at
    raise Unreadable("a brace in it is open")


def _is_of_name(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")
