"""One message as people read it: how it came, where it is, and what each server said."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from relay.cli.output import print_record, words
from relay.cli.times import absolute, moment
from relay.control.messages.results import (
    AttemptRecord,
    ChangedHeader,
    JourneyRecord,
    RecipientRecord,
    ReturnedRecord,
    changed_headers,
)


def print_journey(record: JourneyRecord) -> None:
    """Print a message with its recipients, its attempts, and what they changed in its header."""
    now = datetime.now(UTC)
    print_record(dict(_facts(record, now)))
    print("\nrecipients")
    for recipient in record.recipients:
        print(f"  {recipient.state:<9}  {words(recipient.address)}")
        if recipient.reply:
            print(f"             {words(recipient.reply)}")
        if recipient.returned:
            print(f"             {_returned(recipient.returned)}")
    if record.attempts:
        print("\nattempts")
    for attempt in record.attempts:
        print(f"  {_local(attempt.started)}  {words(attempt.account)}{_how_far(attempt)}")
        print(f"    {words(attempt.reply) or 'no answer yet'}")
    changed = changed_headers(record.attempts)
    for one in changed:
        print("\nheader changes" + (f", {one.whose}" if len(changed) > 1 else ""))
        for line in _changes(one):
            print(f"  {line}")


def recipients_in_short(recipients: Sequence[RecipientRecord]) -> str:
    """Return the first recipient, and how many there are beside it."""
    if not recipients:
        return ""
    more = f" +{len(recipients) - 1}" if len(recipients) > 1 else ""
    return f"{words(recipients[0].address)}{more}"


def _facts(record: JourneyRecord, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield what is known about a message; what there is nothing to say about is left out."""
    yield "id", words(record.id)
    yield "state", words(record.state)
    if record.reason:
        yield "reason", words(record.reason)
    times = {"next attempt": record.next_attempt, "held since": record.held_since, "delivered": record.delivered}
    for key, time in {"created": record.created, **times}.items():
        if time:
            yield key, absolute(moment(time), now)
    yield "client", f"{words(record.client)}, says it is {words(record.helo)}"
    yield "sender", words(record.sender) or "<>"
    ways = {"profile": record.profile, "server": record.server, "account": record.account}
    for key, value in {**ways, "subject": record.subject, "message-id": record.message_id}.items():
        if value:
            yield key, words(value)
    yield "size", _size(record.size)
    if record.reply:
        yield "reply", words(record.reply)


def _changes(changed: ChangedHeader) -> Iterator[str]:
    """Yield a line for each header field that was changed."""
    for one in changed.changes:
        name, before, after = words(one.field), words(one.before), words(one.after)
        if not after:
            yield f"{name}: removed, it was {before or 'empty'}"
        elif not before:
            yield f"{name}: added, {after}"
        else:
            yield f"{name}: rewritten from {before} to {after}"
    if changed.left_out:
        yield f"and {changed.left_out} more"
    if not changed.changes:
        yield "none: it left as it came, with one Received field on top"


def _returned(returned: ReturnedRecord) -> str:
    """Return what a report said that came later: its words mostly hold the status themselves."""
    said = words(returned.words)
    if returned.status not in said:
        said = f"{returned.status} {said}".rstrip()
    by = f" by {words(returned.reporter)}" if returned.reporter else ""
    return f"returned{by}: {said}, found at {_local(returned.found)}"


def _size(octets: int) -> str:
    size, units = float(octets), iter(("KiB", "MiB", "GiB"))
    unit = "bytes"
    while size >= 1024 and (larger := next(units, None)):
        size, unit = size / 1024, larger
    return f"{octets} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def _local(text: str) -> str:
    return f"{moment(text).astimezone():%Y-%m-%d %H:%M:%S}"


def _how_far(attempt: AttemptRecord) -> str:
    """Return where an attempt ended, where that was before its end."""
    if attempt.meaning:
        return f", {attempt.meaning} at {attempt.phase}"
    return "" if attempt.ended else f", now at {attempt.phase}"
