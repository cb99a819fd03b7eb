"""Takes off the signatures that our changes broke: DKIM (RFC 6376) and ARC (RFC 8617). The others stay as they are.

A broken signature is worse than none: some receivers count it against the sender.
"""

import re
from collections.abc import Collection

from relay.mail.header import Edited, Field, Header, edits_between

SIGNATURES = frozenset(("dkim-signature", "arc-message-signature"))
_ARC = frozenset(("arc-seal", "arc-message-signature", "arc-authentication-results"))
# RFC 6376 section 3.2: tag = value pairs with ";" between, white space allowed anywhere around them.
_SIGNED_FIELDS = re.compile(rb"(?:^|;)\s*h\s*=([^;]*)")
_INSTANCE = re.compile(rb"(?:^|;)\s*i\s*=\s*(\d{1,3})\s*(?:;|$)")


def remove_broken_signatures(header: Header, changed: Collection[str]) -> tuple[Header, tuple[Edited, ...]]:
    """Return the header without the signatures over a field that was added, changed or removed, and what went.

    `changed` holds field names in lower case. One Received field is going to be put on top, which breaks only a
    signature that says how many there are. The header is the one that leaves, but for that.
    """
    current = header
    broken = set(changed)
    while True:
        # A signature may itself be signed, so that removing one can break another.
        kept = _without_broken(current, broken)
        if kept is current:
            return current, edits_between(header, current, ("dkim-signature", *sorted(_ARC)))
        broken |= {item.key for item in current.fields} & (SIGNATURES | _ARC)
        current = kept


def _without_broken(header: Header, changed: Collection[str]) -> Header:
    signatures = [item for item in header.fields if item.key in SIGNATURES]
    received = len(header.get_all("received")) if signatures else 0
    broken = {item for item in signatures if _is_broken(item, changed, received)}
    if not broken:
        return header
    # A seal covers all sets below its own: above a set that goes none can stand.
    first_set = min((_instance(item) for item in broken if item.key in _ARC), default=None)

    def is_unwanted(item: Field) -> bool:
        if item.key in _ARC:
            return first_set is not None and _instance(item) >= first_set
        return item in broken

    return header.without_where(is_unwanted)


def _is_broken(signature: Field, changed: Collection[str], received: int) -> bool:
    match = _SIGNED_FIELDS.search(signature.value)
    if match is None:
        return False
    signed = [name.strip().lower().decode("ascii", "replace") for name in match[1].split(b":")]
    # Fields are signed from the lowest up, and a name beyond the last one signs that there is no more (section 5.4.2).
    return any(name in changed for name in signed) or signed.count("received") > received


def _instance(item: Field) -> int:
    match = _INSTANCE.search(item.value)
    return int(match[1]) if match else 0
