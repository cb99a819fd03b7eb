"""A channel's header rules: fields to set and to remove (`[scripts.NAME]`). They run before the identity is aligned."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from relay.mail.change import Change, changes_between
from relay.mail.header import Field, Header
from relay.mail.words import encode_words

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


def apply_script(
    header: Header, set_headers: Mapping[str, str], remove_headers: Sequence[str]
) -> tuple[Header, tuple[Change, ...]]:
    """Return the header with the rules applied, and what was changed. A field both removed and set is set.

    Raises ValueError for a rule that the directory must not let through.
    """
    removed = [_key(name) for name in remove_headers]
    fields = [_field(name, value) for name, value in set_headers.items()]
    applied = header.without(removed) if removed else header
    for field in fields:
        applied = applied.with_field(field)
    return applied, changes_between(header, applied, dict.fromkeys((*removed, *(field.key for field in fields))))


# Every message of a channel has the same rules.


@lru_cache(maxsize=1024)
def _key(name: str) -> str:
    if is_forbidden(name) or not valid_field_name(name):
        raise ValueError(f"a script cannot change {name!r}")
    return name.lower()


@lru_cache(maxsize=1024)
def _field(name: str, value: str) -> Field:
    _key(name)
    if not valid_field_value(value):
        raise ValueError(f"{name!r} cannot hold {value!r}")
    text = value.strip()
    return Field.make(name, text if text.isascii() else encode_words(text))
