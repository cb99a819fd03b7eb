"""What an alert says: a mail for a person, and JSON for a program. Pure.

SECURITY: titles hold what servers said. In the mail each is one line of printable text, and nothing of it stands in the
header.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from itertools import groupby
from typing import Any

from relay.alerts.digest import Digest, Trouble
from relay.directory.client import ANYONE, Client
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Envelope, Recipient
from relay.mail.reply import clean_text
from relay.mail.trace import Arrival, format_date, message_id, new_id
from relay.store.queue.messages import NewMessage, StoredMessage, StoredRecipient

# Of one group so many are told one by one, and so many lines in all; the rest is a number.
_MOST_ALIKE = 3
_MOST_LINES = 20
_MOST_TITLE = 300
_OURSELVES = Client("relay", "local", (ANYONE,), is_trusted=True)
_QUEUED = "queued"
_ADVICE = {
    "account-held": "relay account list says what to do about each account; its mail waits, and nothing bounces.",
    "server-unreached": "relay server test NAME --no-send tries it; what waits goes on by itself when it is back.",
    "queue-old": "relay queue list says what each message waits for.",
    "token-expires": "relay agent authorize NAME (or channel, server) lets the account in again.",
    "certificate-expires": "Put new files in the place of the old ones: they are in effect at once.",
    "self-check": "relay doctor says all that it finds, with the records to publish.",
    "disk-low": "Make room in the state folder: below delivery.free_space no new mail is accepted.",
}


def summary_of(digest: Digest) -> str:
    """Return one line about a message: how many troubles there are, and how many are over."""
    parts = []
    if there := len(digest.new) + len(digest.still):
        parts.append(f"{there} trouble{'s' if there > 1 else ''}")
    if digest.over:
        parts.append(f"{len(digest.over)} over")
    return ", ".join(parts)


def text_of(digest: Digest, node: str) -> str:
    """Return what a person reads."""
    lines = [f"This is relay at {node}.", ""]
    for head, troubles in (("New:", digest.new), ("Still there:", digest.still)):
        if troubles:
            lines += [head, *_lines(troubles), ""]
    if digest.over:
        over = [Trouble(kind=one.kind, key=one.key, title=one.title) for one in digest.over]
        lines += ["Over:", *_lines(over), ""]
    kinds = {one.kind for one in (*digest.new, *digest.still)}
    lines += [advice for kind, advice in _ADVICE.items() if kind in kinds]
    if kinds:
        lines += ["", "You are told again after a day, and when it is over."]
    return "\n".join(lines).rstrip() + "\n"


def _lines(troubles: Sequence[Trouble]) -> Iterator[str]:
    """Yield a line for each trouble, one for many that are alike, and a number for what is too much."""
    told = 0
    by_group = sorted(troubles, key=lambda one: (one.kind, one.group))
    groups = [list(group) for _, group in groupby(by_group, key=lambda one: (one.kind, one.group))]
    for number, group in enumerate(groups):
        if told >= _MOST_LINES:
            left = sum(len(one) for one in groups[number:])
            yield f"- and {left} more"
            return
        if len(group) > _MOST_ALIKE and group[0].group:
            told += 1
            yield f"- {len(group)} of these: {_title(group[0].group)}; the first: {_title(group[0].title)}"
            continue
        for one in group[: _MOST_LINES - told]:
            told += 1
            yield f"- {_title(one.title)}"
        if left := len(group) - _MOST_LINES:
            yield from [f"- and {left} more"] if left > 0 else []


def _title(text: str) -> str:
    return clean_text(text)[:_MOST_TITLE]


def body_of(digest: Digest, node: str, now: datetime) -> bytes:
    """Return what a program is told: at most so many troubles of each state, and how many there are."""
    data: dict[str, Any] = {"node": node, "summary": summary_of(digest)}
    for state, troubles in (("new", digest.new), ("still", digest.still), ("over", digest.over)):
        data[state] = {
            "count": len(troubles),
            "troubles": [
                {"kind": one.kind, "key": one.key, "title": _title(one.title)} for one in troubles[: 5 * _MOST_LINES]
            ],
        }
    moment = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    return json.dumps({"type": "relay.alert", "timestamp": moment, "data": data}).encode()


def mail_of(
    subject: str, text: str, *, to: Address, identity: Address, profile: str | None, hostname: str, now: datetime
) -> NewMessage:
    """Return a message of ours for the queue, which leaves as `identity` by the way of a profile (None: the default's).

    It has a null envelope sender, as everything that nobody is to answer.
    """
    unique = new_id(now)
    mail = EmailMessage(policy=SMTP)
    mail["From"] = f"Relay <{identity}>"
    mail["To"] = str(to)
    mail["Subject"] = f"[relay {hostname}] {subject}"
    mail["Date"] = format_date(now)
    mail["Message-ID"] = message_id(unique, identity)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text, cte="quoted-printable" if not text.isascii() else "7bit")
    header, _, body = mail.as_bytes().partition(b"\r\n\r\n")
    content = Content(header + b"\r\n", (body,))
    recipient = Recipient(to)
    message = StoredMessage(
        id=unique,
        created=now,
        profile=profile,
        client=_OURSELVES,
        arrival=Arrival(hostname, "local", hostname, "ESMTP", unique, now),
        envelope=Envelope(None, (recipient,)),
        recipients=(StoredRecipient(number=0, recipient=recipient, state=_QUEUED),),
        size=content.size,
        message_id=message_id(unique, identity),
        subject=subject,
        state=_QUEUED,
        next_attempt=now,
        is_report=True,
    )
    return NewMessage(message=message, content=content)
