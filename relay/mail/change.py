"""What was changed in a header, in words for people: the journey, the log and `relay route` show it."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from relay.mail.header import Edited, decode_octets, value_of
from relay.mail.reply import clean_text
from relay.mail.words import decode_words

# A Bcc of a thousand addresses is no text for a log.
_MOST_SHOWN = 500
_MOST_FIELDS = 20
# What is kept of one attempt. Headers of good mail stay far below; a script or hostile mail does not fill the store.
_MOST_KEPT = 50
_KEPT_OCTETS = 16 * 1024
_MOST_OCTETS_OF_CHARACTER = 4
_MOST_REMEMBERED = 512


class Change(NamedTuple):
    """One field that was set, replaced or removed.

    `before` and `after` are decoded, on one line, of at most 500 characters and "..."; "" where there was none.
    """

    field: str
    before: str
    after: str


class KeptChanges(NamedTuple):
    """What was changed in one header, as it is kept and shown: at most 50 changes, of at most 16 KiB of text in all.

    `left_out` says how many more there were.
    """

    changes: tuple[Change, ...] = ()
    left_out: int = 0


_NOTHING = KeptChanges()


def kept(changes: Iterable[Change]) -> KeptChanges:
    """Return what is kept of the changes: each of them whole, in their order, as far as there is room."""
    given = tuple(changes)
    if not given:
        return _NOTHING
    room = _KEPT_OCTETS
    for field, before, after in given:
        room -= _MOST_OCTETS_OF_CHARACTER * (len(field) + len(before) + len(after))
    return KeptChanges(given) if room >= 0 and len(given) <= _MOST_KEPT else _cut(given)


def _cut(changes: Iterable[Change]) -> KeptChanges:
    found: list[Change] = []
    left_out, room = 0, _KEPT_OCTETS
    for change in changes:
        octets = len("".join(change).encode("utf-8", "replace"))
        if len(found) < _MOST_KEPT and octets <= room:
            found.append(change)
            room -= octets
        else:
            left_out += 1
    return KeptChanges(tuple(found), left_out)


def change_of(edited: Edited) -> Change:
    """Return in words what was done to the fields of one name."""
    _, before, after = edited
    return Change(_name(after or before), _shown(before), _shown(after)) if before else _added(after)


@lru_cache(_MOST_REMEMBERED)  # what is added is ours: the fields of scripts, which all messages of a channel get
def _added(raws: tuple[bytes, ...]) -> Change:
    return Change(_name(raws), "", _shown(raws))


def _name(raws: Sequence[bytes]) -> str:
    return raws[0].partition(b":")[0].decode("ascii")


def _shown(raws: Sequence[bytes]) -> str:
    values = [decode_octets(value_of(raw))[: 2 * _MOST_SHOWN] for raw in raws[:_MOST_FIELDS]]
    shown = ", ".join([clean_text(decode_words(value)) for value in values])
    return shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + "..."
