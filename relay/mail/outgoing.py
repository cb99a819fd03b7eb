"""Puts a message together as it leaves: script, identity, what is missing, what must not travel, Received on top.

Pure and repeatable: from one stored message and one route it makes the same bytes at every attempt.
Three steps of it stand here too. Scripts (`[scripts.NAME]`) are a channel's header rules; they run before the identity
is aligned. A line of a header has at most 998 octets without its CRLF (RFC 5322 section 2.1.1): some servers cut a
longer one, and then what stands behind it is another header; it is folded at white space (section 2.2.3). A DKIM
(RFC 6376) or ARC (RFC 8617) signature that our changes broke is worse than none: some receivers count it against the
sender.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from relay.mail.content import Content, ContentRefused
from relay.mail.encoded_words import encode_words, fold
from relay.mail.envelope import Recipient
from relay.mail.header import (
    Change,
    Edited,
    Header,
    HeaderEdit,
    KeptChanges,
    change_of,
    has_value,
    kept,
    key_of,
    value_of,
)
from relay.mail.identity import Alignment, align_fields
from relay.mail.reply import Reply
from relay.mail.trace import Arrival, check_loop, format_date, message_id, received_field

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
_SIGNATURES = frozenset(("dkim-signature", "arc-message-signature"))
_ARC = frozenset(("arc-seal", "arc-message-signature", "arc-authentication-results"))
# RFC 6376 section 3.2: tag = value pairs with ";" between, white space allowed anywhere around them.
_SIGNED_FIELDS = re.compile(rb"(?:^|;)\s*h\s*=([^;]*)")
_INSTANCE = re.compile(rb"(?:^|;)\s*i\s*=\s*(\d{1,3})\s*(?:;|$)")
_MOST_OCTETS = 998
# No receiver checks nearly as many (RFC 6376 section 6.1 lets it stop), and to read ten thousand takes 30 ms.
_MOST_SIGNATURES = 1000

Script: TypeAlias = tuple[Mapping[str, str], Sequence[str]]
"""The fields to set and those to remove."""


class Outgoing(NamedTuple):
    """The message as it leaves, what was done to its header, and the Message-ID that it bears.

    The Received field is no change in that sense.
    """

    content: Content
    edited: Sequence[Edited]
    message_id: str

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was changed, in words."""
        return tuple(map(change_of, self.edited))

    @property
    def kept(self) -> KeptChanges:
        """What was changed, as it is kept and shown."""
        return kept(map(change_of, self.edited))


def compose(
    content: Content,
    header: Header,
    *,
    arrival: Arrival,
    recipients: Sequence[Recipient],
    alignment: Alignment,
    script: Script | None,
) -> Outgoing:
    """Return the message that leaves. `header` is that of `content`; the body stays the same bytes.

    Raises ContentRefused: a loop, a From that may not be, or a line of the header that is too long and cannot be
    folded.
    """
    named = header.named
    if "received" in named:
        check_loop(header, arrival.hostname)
    edit = HeaderEdit(header)
    if script is not None:
        apply_script(edit, script)
    scripted, edit.done = edit.done, []
    align_fields(edit, alignment)
    # Date and Message-ID are added where they are missing or empty (RFC 6409 sections 8.2 and 8.3).
    if "date" not in named or not has_value(named["date"]):
        edit.put("date", fold("Date", format_date(arrival.received_at)))
    if "message-id" in named and has_value(named["message-id"]):
        unique = header.text_of("message-id")
    else:
        # Not the identity's domain where there is a sender: another server may be chosen before the next attempt.
        unique = message_id(arrival.id, alignment.sender or alignment.identity)
        edit.put("message-id", fold("Message-ID", unique))
    # The identity first: where there are many changes, the last ones are not kept.
    edit.done += scripted
    if max(map(len, edit.raws)) > _MOST_OCTETS:
        fold_long_lines(edit)
    if not _SIGNATURES.isdisjoint(edit.named):
        remove_broken_signatures(edit)
    top = received_field(arrival, recipients)
    return Outgoing(Content(b"".join((top, *edit.raws)), content.body), edit.done, unique)


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


def fold_long_lines(edit: HeaderEdit) -> None:
    """Fold the lines over 998 octets. Raises ContentRefused: 554 5.6.0. Unfolded each field is what it was."""
    folded = {raw: _folded(raw) for raw in edit.raws if len(raw) > _MOST_OCTETS}
    folded = {raw: now for raw, now in folded.items() if now != raw}
    for key in dict.fromkeys(map(key_of, folded)):
        before = edit.named[key]
        edit.named[key] = [folded.get(raw, raw) for raw in before]
        edit.done.append(Edited(key, tuple(before), tuple(edit.named[key])))
    if folded:
        edit.raws = [folded.get(raw, raw) for raw in edit.raws]


def _folded(raw: bytes) -> bytes:
    lines = raw.removesuffix(b"\r\n").split(b"\r\n")
    if all(len(line) <= _MOST_OCTETS for line in lines):
        return raw
    name = raw.partition(b":")[0].decode("ascii")
    return b"\r\n".join(part for line in lines for part in _folded_lines(line, name)) + b"\r\n"


def _folded_lines(line: bytes, name: str) -> list[bytes]:
    """Return the lines that one is folded to: each begins with white space of it, and none is white space alone."""
    parts = []
    while len(line) > _MOST_OCTETS:
        first, end = len(line) - len(line.lstrip(b" \t")), min(_MOST_OCTETS + 1, len(line.rstrip(b" \t")))
        place = max(line.rfind(b" ", first, end), line.rfind(b"\t", first, end))
        if place < 0:
            text = f"a line of the field {name[:60]} has over {_MOST_OCTETS} octets, and no white space to fold it at"
            raise ContentRefused(Reply(554, "5.6.0", text))
        parts.append(line[:place])
        line = line[place:]
    return [*parts, line]


def remove_broken_signatures(edit: HeaderEdit) -> None:
    """Take off the signatures over a field that was added, changed or removed; of more than 1,000 fields, all.

    One Received field is going to be put on top, which breaks only a signature that says how many there are. The
    header is the one that leaves, but for that.
    """
    keys = ("dkim-signature", *sorted(_ARC))
    came = {key: edit.named[key] for key in keys if key in edit.named}
    if sum(map(len, came.values())) > _MOST_SIGNATURES:
        for key in came:
            edit.drop(key)
        return
    changed = {edited.key for edited in edit.done}
    while broken := _broken_signatures(edit.named, changed):
        # A signature may itself be signed, so that removing one can break another.
        changed |= edit.named.keys() & came.keys()
        edit.raws = [raw for raw in edit.raws if raw not in broken]
        for key in came.keys() & edit.named.keys():
            left = [raw for raw in edit.named[key] if raw not in broken]
            if left:
                edit.named[key] = left
            else:
                del edit.named[key]
    for key, before in came.items():
        after = edit.named.get(key, [])
        if len(after) != len(before):
            edit.done.append(Edited(key, tuple(before), tuple(after)))


def _broken_signatures(named: Mapping[str, list[bytes]], changed: Collection[str]) -> set[bytes]:
    received = len(named.get("received", ()))
    dkim, arc = (
        {raw for raw in named.get(key, ()) if _is_broken(raw, changed, received)}
        for key in ("dkim-signature", "arc-message-signature")
    )
    if not arc:
        return dkim
    # A seal covers all sets below its own: above a set that goes none can stand.
    first_set = min(map(_instance, arc))
    return dkim | {raw for key in _ARC for raw in named.get(key, ()) if _instance(raw) >= first_set}


def _is_broken(signature: bytes, changed: Collection[str], received: int) -> bool:
    match = _SIGNED_FIELDS.search(value_of(signature))
    if match is None:
        return False
    signed = [name.strip().lower().decode("ascii", "replace") for name in match[1].split(b":")]
    # Fields are signed from the lowest up, and a name beyond the last one signs that there is no more (section 5.4.2).
    return any(name in changed for name in signed) or signed.count("received") > received


def _instance(raw: bytes) -> int:
    match = _INSTANCE.search(value_of(raw))
    return int(match[1]) if match else 0
