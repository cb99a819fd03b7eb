"""What was changed in a header, in words for people: the journey, the log and `relay route` show it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relay.mail.header import Field, Header
from relay.mail.reply import clean_text
from relay.mail.words import decode_words

# A Bcc of a thousand addresses is no text for a log.
_MOST_SHOWN = 500
_MOST_FIELDS = 20
# What is kept of one attempt. Headers of good mail stay far below; a script or hostile mail does not fill the store.
_MOST_KEPT = 50
_KEPT_OCTETS = 16 * 1024


@dataclass(frozen=True, slots=True)
class Change:
    """One field that was set, replaced or removed.

    `before` and `after` are decoded, on one line, of at most 500 characters and "..."; "" where there was none.
    """

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class KeptChanges:
    """What was changed in one header, as it is kept and shown: at most 50 changes, of at most 16 KiB of text in all.

    `left_out` says how many more there were.
    """

    changes: tuple[Change, ...] = ()
    left_out: int = 0


def kept(changes: Iterable[Change]) -> KeptChanges:
    """Return what is kept of the changes: each of them whole, in their order, as far as there is room."""
    found: list[Change] = []
    left_out, room = 0, _KEPT_OCTETS
    for change in changes:
        octets = len((change.field + change.before + change.after).encode("utf-8", "replace"))
        if len(found) < _MOST_KEPT and octets <= room:
            found.append(change)
            room -= octets
        else:
            left_out += 1
    return KeptChanges(tuple(found), left_out)


def changes_between(before: Header, after: Header, keys: Iterable[str]) -> tuple[Change, ...]:
    """Return what differs in the fields of these names (lower case), in their order."""
    if before is after:
        return ()
    wanted = tuple(keys)
    was, now = _by_key(before, wanted), _by_key(after, wanted)
    return tuple([_change(was.get(key, []), now.get(key, [])) for key in wanted if was.get(key) != now.get(key)])


def _by_key(header: Header, keys: tuple[str, ...]) -> dict[str, list[Field]]:
    found: dict[str, list[Field]] = {}
    for item in header.fields:
        if item.key in keys:
            found.setdefault(item.key, []).append(item)
    return found


def _change(old: Sequence[Field], new: Sequence[Field]) -> Change:
    return Change((new or old)[0].name, _shown(old), _shown(new))


def _shown(fields: Sequence[Field]) -> str:
    values = [item.text[: 2 * _MOST_SHOWN] for item in fields[:_MOST_FIELDS]]
    shown = ", ".join([clean_text(decode_words(value)) for value in values])
    return shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + "..."
