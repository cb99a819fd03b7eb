"""A channel's header rules: fields to set and to remove (`[scripts.NAME]`). They run before the identity is aligned."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from relay.mail.header import Edited, HeaderEdit
from relay.mail.words import encode_words, fold

# What names the parties, times or structure of a message is no script's business (DESIGN "Identity, in full").
FORBIDDEN_FIELDS = frozenset(
    (
        "from",
        "sender",
        "reply-to",
        "to",
        "cc",
        "bcc",
        "date",
        "message-id",
        "received",
        "return-path",
        "mime-version",
        "dkim-signature",
    )
)
_FORBIDDEN_PREFIX = "content-"
# RFC 5322 section 3.6.8: printable ASCII without the colon; short enough to leave room on its line.
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")
_UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff]")
# RFC 5322 section 2.1.1: a line is at most 998 octets, and ASCII text is folded only at its spaces.
_LONGEST_WORD = 900
_LONGEST_VALUE = 10_000


def is_forbidden(name: str) -> bool:
    """Whether a script may not touch the fields of this name."""
    key = name.lower()
    return key in FORBIDDEN_FIELDS or key.startswith(_FORBIDDEN_PREFIX)


def valid_field_name(name: str) -> bool:
    """Whether a header field can bear this name."""
    return _FIELD_NAME.fullmatch(name) is not None


def valid_field_value(value: str) -> bool:
    """Whether a header field can hold this text: not empty, one line, and every word of ASCII fits a line."""
    if not value.strip() or len(value) > _LONGEST_VALUE or _UNPRINTABLE.search(value):
        return False
    return not value.isascii() or all(len(word) <= _LONGEST_WORD for word in value.split(" "))


Script: TypeAlias = tuple[Mapping[str, str], Sequence[str]]
"""The fields to set and those to remove."""


class _Rules(NamedTuple):
    """A script as it is followed: names to take off, fields to set by name, and whether a name is in both."""

    removed: tuple[str, ...]
    added: tuple[tuple[str, bytes], ...]
    are_mixed: bool


def apply_script(edit: HeaderEdit, script: Script) -> None:
    """Follow the rules. A field both removed and set is set, at the end.

    Raises ValueError for a rule that the directory must not let through.
    """
    set_headers, remove_headers = script
    removed, added, are_mixed = _rules(tuple(set_headers.items()), tuple(remove_headers))
    came = dict(edit.named) if are_mixed else {}
    for key in removed:
        edit.drop(key)
    for key, raw in added:
        edit.put(key, raw)
    if are_mixed:  # what was taken off and set again was changed once, if at all
        steps = [
            Edited(key, tuple(came.get(key, ())), tuple(edit.named.get(key, ())))
            for key in dict.fromkeys((*removed, *dict(added)))
        ]
        edit.done = [step for step in steps if step.before != step.after]


@lru_cache(maxsize=1024)  # every message of a channel has the same ones
def _rules(set_headers: tuple[tuple[str, str], ...], remove_headers: tuple[str, ...]) -> _Rules:
    removed = tuple(dict.fromkeys(_key(name) for name in remove_headers))
    added: dict[str, bytes] = {}
    for name, value in set_headers:
        key = _key(name)
        if not valid_field_value(value):
            raise ValueError(f"{name!r} cannot hold {value!r}")
        text = value.strip()
        added[key] = fold(name, text if text.isascii() else encode_words(text))
    return _Rules(removed, tuple(added.items()), not added.keys().isdisjoint(removed))


def _key(name: str) -> str:
    if is_forbidden(name) or not valid_field_name(name):
        raise ValueError(f"a script cannot change {name!r}")
    return name.lower()
